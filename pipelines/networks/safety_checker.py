"""Checks prompts and images with classifiers that the user chose.

They are small and run on the CPU in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.nn import functional

from ..errors import ModelError, SafetyError
from ..weights.folder import read_json
from .helper_folder import architecture_of, companion_record, load_companion

__all__ = ["Looks", "SafetyChecker"]

Looks = Literal["text", "image"]

_WHAT = "safety checker"
_KINDS: Mapping[Looks, str] = {"text": "ForSequenceClassification", "image": "ForImageClassification"}
_HARMLESS = {"good", "harmless", "neutral", "normal", "ok", "safe", "sfw"}
_HARMLESS |= {"drawings", "non-toxic", "non_toxic", "nontoxic", "not_nsfw"}
_SETTINGS = "wan_duet.json"
_THRESHOLD = 0.5
_MOST_TOKENS = 512


class SafetyChecker:
    """A folder with one classifier of texts or images, or with one of each in `text` and `image`.

    A label counts as unsafe unless its name is known to be harmless. If the names are not meaningful, a
    wan_duet.json beside the weights lists the unsafe ones: {"unsafe": ["LABEL_1"], "threshold": 0.5}.
    """

    def __init__(self, folder: Path) -> None:
        """Find the classifiers, without reading weights. Raises ModelError if `folder` has none."""
        self._folder = folder
        self._parts: dict[Looks, Path] = {}
        for place in (folder, folder / "text", folder / "image"):
            if place == folder and not (place / "config.json").is_file():
                continue
            if place != folder and not place.is_dir():
                continue
            name = architecture_of(place, _WHAT)
            for looks, ending in _KINDS.items():
                if name.endswith(ending):
                    self._parts.setdefault(looks, place)
        if not self._parts:
            raise ModelError(
                f"{_WHAT}: {folder} holds no {' and no '.join(_KINDS.values())} of transformers; give a "
                "folder with one of them, or with one in each of the folders text and image"
            )

    @property
    def can_check(self) -> frozenset[Looks]:
        return frozenset(self._parts)

    def as_dict(self) -> dict[str, Any]:
        """Return the folders and hashes of the classifiers, for the receipt."""
        return {looks: companion_record(folder) for looks, folder in self._parts.items()}

    def read(self, text: str, where: str) -> None:
        """Classify a text. Raises SafetyError that names `where` if it is flagged."""
        tokenizer = self._tokenizer
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=_MOST_TOKENS)
        self._judge("text", dict(inputs), where)

    def look(self, frame: np.ndarray[Any, Any], where: str) -> None:
        """Classify an image (H, W, 3), uint8. Raises SafetyError that names `where` if it is flagged."""
        settings = read_json(self._parts["image"] / "preprocessor_config.json")
        size = settings.get("crop_size") or settings.get("size") or 224
        if isinstance(size, Mapping):
            height, width = (
                size.get(side) or size.get("shortest_edge") or 224 for side in ("height", "width")
            )
        else:
            height = width = int(size)
        pixels = torch.from_numpy(np.array(frame)).permute(2, 0, 1)[None].float() / 255
        pixels = functional.interpolate(pixels, size=(height, width), mode="bicubic", antialias=True)
        mean, std = (
            torch.tensor(settings.get(key, [0.5] * 3), dtype=torch.float32).view(1, 3, 1, 1)
            for key in ("image_mean", "image_std")
        )
        self._judge("image", {"pixel_values": (pixels.clamp(0, 1) - mean) / std}, where)

    @torch.inference_mode()
    def _judge(self, looks: Looks, inputs: Mapping[str, torch.Tensor], where: str) -> None:
        network, (unsafe, threshold) = self._networks[looks], self._rules[looks]
        logits = network(**inputs).logits[0].float()
        if not bool(torch.isfinite(logits).all()):
            raise ModelError(f"{_WHAT}: {self._parts[looks]} returns NaN or Inf; choose another model")
        if network.config.problem_type == "multi_label_classification":
            scores = {label: float(logits[index].sigmoid()) for index, label in unsafe.items()}
            score = max(scores.values())
        else:
            shares = logits.softmax(0)
            scores = {label: float(shares[index]) for index, label in unsafe.items()}
            score = sum(scores.values())
        if score >= threshold:
            worst = max(scores, key=lambda label: scores[label])
            raise SafetyError(
                f"{where}: flagged as {worst} ({score:.2f}, the limit is {threshold:.2f}) by "
                f"{self._parts[looks].resolve().name}; nothing was written; change the request"
            )

    @cached_property
    def _networks(self) -> dict[Looks, Any]:
        autos = {"text": "AutoModelForSequenceClassification", "image": "AutoModelForImageClassification"}
        return {
            looks: load_companion(autos[looks], folder, _WHAT, torch.float32)
            for looks, folder in self._parts.items()
        }

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        folder = self._parts["text"]
        try:
            return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        except Exception as error:  # transformers raises many types of errors for damaged files
            raise ModelError(f"{_WHAT}: the tokenizer in {folder} cannot be loaded: {error}") from error

    @cached_property
    def _rules(self) -> dict[Looks, tuple[dict[int, str], float]]:
        """Return ({index: name} of the unsafe labels, threshold of the score) of each classifier."""
        return {looks: _rule(folder, self._networks[looks].config) for looks, folder in self._parts.items()}


def _rule(folder: Path, config: Any) -> tuple[dict[int, str], float]:
    labels = {int(index): str(name) for index, name in config.id2label.items()}
    file = folder / _SETTINGS
    settings = read_json(file) if file.is_file() else {}
    threshold = float(settings.get("threshold", _THRESHOLD))
    if "unsafe" in settings:
        unsafe = {index: name for index, name in labels.items() if name in settings["unsafe"]}
        if len(unsafe) != len(settings["unsafe"]):
            raise ModelError(f"{file}: unsafe names labels that are not among {', '.join(labels.values())}")
        return unsafe, threshold
    harmless = {index for index, name in labels.items() if name.lower() in _HARMLESS}
    several = config.problem_type == "multi_label_classification"
    if len(harmless) == len(labels) or not (harmless or several):
        raise ModelError(
            f"{_WHAT}: the labels of {folder} ({', '.join(labels.values())}) do not say which are unsafe; "
            f'put {{"unsafe": [...]}} into {file}'
        )
    return {index: name for index, name in labels.items() if index not in harmless}, threshold
