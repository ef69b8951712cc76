"""Guesses which Wan model a LoRA was made for, and which of its two experts.

Shapes prove size and task. No tensor distinguishes 2.1 from 2.2 of the 14B, or high from low: only the header
that the trainer wrote and, as a hint, the file name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..noise_in_name import noise_in_name
from .change import Change
from .lora_file import LoraFile
from .lora_names import is_image_path
from .metadata import ADAPTER_WEIGHTS

__all__ = ["Base", "Intended", "guess_base", "guess_expert", "guess_expert_by_name", "width_of"]

_SIZES = {5120: "14B", 3072: "5B", 1536: "1.3B"}  # hidden width, wan/configs of the official code
_TASKS = {16: "T2V", 36: "I2V", 48: "TI2V"}  # channels that the patch embedding takes
_PATCH = 4  # values of one channel in a patch: 1 x 2 x 2

# What trainers (musubi-tuner, ai-toolkit, ours) name their base model in. Captions and data set names stand
# elsewhere in the header and would only mislead.
_TELLING = (
    "modelspec.architecture",
    "modelspec.title",
    "ss_sd_model_name",
    "ss_base_model_version",
    "ss_task",
    "ss_output_name",
    "experts",
)
_FILE_NAME = "the file name, which is only a hint,"
_LONGEST = 400  # characters of a header's value that are looked at

_VERSION = re.compile(r"wan[^a-z0-9]?(?:video)?[^a-z0-9]?v?2[._ -]?([12])(?![0-9])")
_SIZE = re.compile(r"(?<![0-9.])(a?14b|5b|1[._]3b)(?![a-z0-9])")
_TASK = re.compile(r"(?<![a-z0-9])(ti2v|i2v|t2v)(?![a-z])")


@dataclass(frozen=True)
class Base:
    """The model a LoRA was made for; empty if unknown. `evidence` says how it is known."""

    version: str
    size: str
    task: str
    evidence: tuple[str, ...]

    @property
    def name(self) -> str:
        known = [part for part in (self.version, self.size, self.task) if part]
        return f"Wan {' '.join(known)}" if known else "unknown"


@dataclass(frozen=True)
class Intended:
    """The expert a LoRA was made for: high, low, both, or empty if unknown."""

    expert: str
    evidence: str


def guess_base(lora: LoraFile) -> Base:
    """Guess from shapes first, then the header, then the file name.

    Later hints never replace earlier ones.
    """
    version, size, task, evidence = _from_shapes(lora.changes)
    for source, text in _texts(lora):
        before = (version, size, task)
        found_version, found_size, found_task = (
            rule.search(text.lower()) for rule in (_VERSION, _SIZE, _TASK)
        )
        if not version and found_version:
            version = f"2.{found_version[1]}"
        if not version and found_size and found_size[1] == "a14b":
            version = "2.2"  # only there 14B are the active ones of two experts
        if not size and found_size:
            size = found_size[1].upper().removeprefix("A").replace("_", ".")
        if not task and found_task:
            task = found_task[1].upper()
        if (version, size, task) != before:
            evidence.append(source)
    return Base(version, size, task, tuple(evidence))


def guess_expert(lora: LoraFile) -> Intended:
    prefixes = {change.expert for change in lora.changes}
    if prefixes - {""}:
        experts = {expert or "high" for expert in prefixes}
        return Intended("both" if len(experts) == 2 else experts.pop(), "the prefixes of its keys")
    for source, text in _texts(lora):
        found = noise_in_name(text)
        if len(found) == 2 and source == "experts":
            return Intended("both", source)
        if len(found) == 1:
            return Intended(next(iter(found)), source)
    return Intended("", "")


def guess_expert_by_name(name: str) -> Intended:
    """Guess from the name of a file that is not here, without folders."""
    found = noise_in_name(name.removesuffix(".safetensors"))
    return Intended(next(iter(found)), _FILE_NAME) if len(found) == 1 else Intended("", "")


def width_of(lora: LoraFile) -> int | None:
    """Return the hidden width of the model that a LoRA was made for, as far as its shapes tell."""
    return _width(lora.changes)


def _from_shapes(changes: tuple[Change, ...]) -> tuple[str, str, str, list[str]]:
    version = size = task = ""
    evidence: list[str] = []
    if width := _width(changes):
        size = _SIZES.get(width, f"of width {width}")
        evidence.append(f"width {width}")
        if size == "5B":
            version, task = "2.2", "TI2V"
        elif size == "1.3B":
            version = "2.1"
    patches = [change.form.matrix[1] for change in changes if change.name == "patch_embedding.weight"]
    channels = [columns // _PATCH for columns in patches if columns is not None]
    if channels and channels[0] in _TASKS:
        task = _TASKS[channels[0]]
        evidence.append(f"{channels[0]} input channels")
    if any(is_image_path(change.name) for change in changes):
        version, task = "2.1", "I2V"
        evidence.append("keys of the image encoder's path")
    return version, size, task, evidence


def _width(changes: tuple[Change, ...]) -> int | None:
    """Return the hidden width: the output size of attention and of the second feed-forward layer."""
    for change in changes:
        if change.name.startswith("blocks.") and change.name.endswith(".weight"):
            out, into = change.form.matrix
            width = into if change.name.endswith("ffn.net.0.proj.weight") else out
            if width is not None:
                return width
    return None


def _texts(lora: LoraFile) -> Iterator[tuple[str, str]]:
    for name in _TELLING:
        if name in lora.metadata:
            yield name, lora.metadata[name][:_LONGEST]
    yield _FILE_NAME, _name(lora.file)


def _name(file: Path) -> str:
    """Return the name that a person chose: of the file, or of the folder of an adapter of PEFT."""
    return file.parent.name if file.name.lower() == ADAPTER_WEIGHTS else file.stem
