"""Compares a result and its receipt with those of a new run: same bits, rounding, or something else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from ..sampling.step_fingerprints import StepDifference
from ..video.read import read_frames

__all__ = ["Agreement", "Verification", "by_size", "different_entries", "is_video", "lowest_psnr"]

Agreement = Literal["same bits", "same within rounding", "different", "cannot tell"]

# Frames that part by one of 255 in a sixteenth of the values are at 60 dB. A word more in the negative prompt
# of few steps may be at 40 dB.
_ROUNDING_PSNR_DB, _CLOSE_PSNR_DB = 60.0, 40.0
# H.264 makes two small files of frames that rounding alone parts: at 39.7 to 54.7 dB, seen in clips of 64x64.
_ENCODED_PSNR_DB = 30.0
# Relative differences of the first step that differs: up to the first number it is rounding where no later
# step differs by more than the second, and above the second it is not. In float32, other threads make 3e-6,
# convolutions in TF32 up to 1e-3, a LoRA at 0.51 in place of 0.5 7e-3. In 16 bits rounding makes 5e-2, as
# much as a word in the negative prompt.
_STEP_BOUNDS = {"float32": (2e-5, 1e-3)}
_STEP_BOUNDS_OF_16_BITS = (0.0, 0.3)
_OF_THE_RESULT = (
    *("kind", "inputs", "prompt", "plan", "latents_sha256", "frames_sha256"),
    *("interpolator", "acceleration", "lossy_by_choice"),
)
_OF_THE_MODEL = ("family", "precision", "dtype", "files", "loras")
_YOUNGER = {"frames_sha256"}  # missing in older receipts


@dataclass(frozen=True)
class Verification:
    """reasons: what was found, one sentence each."""

    verdict: Agreement
    reasons: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return {"verdict": self.verdict, "reasons": list(self.reasons)}

    def text(self) -> str:
        return "\n".join([self.verdict, *(f"  {reason}" for reason in self.reasons)])


def by_size(psnr: float, first: StepDifference | None, dtype: str, reasons: Sequence[str]) -> Verification:
    """Decide by the sizes of differences alone.

    psnr: of the frames, in dB. first: the first step that differs; None if no step is known.
    """
    if first is not None and first.size is not None:
        rounding, other = _STEP_BOUNDS.get(dtype, _STEP_BOUNDS_OF_16_BITS)
        if first.size > other:
            return Verification("different", (*reasons, "rounding does not make so much in one step"))
        alike = first.size <= rounding and first.largest is not None and first.largest <= other
        if alike and psnr >= _ENCODED_PSNR_DB:
            return Verification("same within rounding", tuple(reasons))
    if psnr < _CLOSE_PSNR_DB:
        return Verification("different", tuple(reasons))
    if psnr >= _ROUNDING_PSNR_DB:
        return Verification("same within rounding", tuple(reasons))
    return Verification("cannot tell", (*reasons, "that may be rounding, or a small change of the request"))


def different_entries(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """Return the entries about the result in which two receipts differ."""
    wrong = [
        name
        for name in _OF_THE_RESULT
        if here.get(name) != there.get(name) and (name in there or name not in _YOUNGER)
    ]
    wrong += [
        f"model.{name}" for name in _OF_THE_MODEL if here["model"].get(name) != there["model"].get(name)
    ]
    wrong += ["adjustments"] if _adjusted(here) != _adjusted(there) else []
    # An unset seed was drawn, and the new run was given the one that was drawn.
    request = {"seed": there["seed"], **{k: v for k, v in there["request"].items() if v is not None}}
    return wrong + (["request"] if request != {**here["request"], "seed": there["seed"]} else [])


def _adjusted(receipt: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """Return what was adjusted to what. The reasons are texts of a version."""
    return [(entry.get("field"), entry.get("used")) for entry in receipt.get("adjustments", ())]


def lowest_psnr(one: Path, other: Path) -> float | None:
    """Return the lowest PSNR of a frame in dB, of 8-bit values. None if number or size of frames differ."""
    lowest, pairs = np.inf, zip(_frames(one), _frames(other), strict=True)
    with suppress(ValueError):  # zip: one of them is longer
        for first, second in pairs:
            if first.shape != second.shape:
                return None
            error = float(np.mean((first.astype(np.float64) - second) ** 2))
            lowest = min(lowest, 10 * np.log10(255**2 / error) if error else np.inf)
        return float(lowest)
    return None


def _frames(file: Path) -> Any:
    if is_video(file):
        return read_frames(file)
    with Image.open(file) as image:
        return iter([np.asarray(image.convert("RGB"))])


def is_video(file: Path) -> bool:
    return file.suffix.lower() not in (".png", ".jpg", ".jpeg")
