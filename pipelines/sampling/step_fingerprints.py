"""Fingerprints of the steps of a run: which step of another run is the first that differs, and by how much?

A hash tells equal bits. A sketch of a few numbers tells the size of a difference without the latents
(count sketch, Charikar, Chen and Farach-Colton 2002): it keeps lengths, within about a fifth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..progress import Progress

__all__ = ["STEP_FINGERPRINTS", "Fingerprint", "StepDifference", "StepFingerprints", "first_difference"]

STEP_FINGERPRINTS = "step_fingerprints"
"""The key in a receipt."""


Fingerprint = Mapping[str, Any]  # {"sha256": of the bits, "sketch": numbers}

_NUMBERS = 8
_ROW = 1024 * _NUMBERS  # added at once: numpy adds long rows quickly
_DIGITS = 10  # significant, of each number: a difference of 1e-6 of the latents is seen in a million values
_HASH_DIGITS = 16
_SAMPLING = "sampling"


class StepFingerprints:
    """Progress of a run that takes the fingerprint of each step on its way to `progress`.

    `taken` has one entry a step, ready for JSON. The clips of speech follow each other.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress, self._stage = progress, ""
        self.taken: list[Fingerprint] = []

    def begin(self, stage: str, total: int, unit: str) -> None:
        self._stage = stage
        self._progress.begin(stage, total, unit)

    def advance(self, done: int, preview: Callable[[], Tensor] | None = None) -> None:
        if self._stage == _SAMPLING and preview is not None:
            self.taken.append(_fingerprint(preview()))
        self._progress.advance(done, preview)

    def check(self) -> None:
        self._progress.check()


@dataclass(frozen=True)
class StepDifference:
    """The first step in which two runs differ.

    step:    from 0.
    size:    of the difference, relative to the latents; None if it is unknown.
    largest: of the differences of this step and all later ones; None if one is unknown.
    """

    step: int
    size: float | None
    largest: float | None = None

    def text(self, experts: Sequence[str], *, clips: bool = False) -> str:
        """Name the step. experts: of the steps of a run, or of one clip of several."""
        clip, step = divmod(self.step, len(experts))
        where = f" of clip {clip + 1}" if clips else ""
        size = "" if self.size is None else f", by about {100 * self.size:.2g} %"
        of_all = f"step {step + 1} of {len(experts)}{where} ({experts[step]}-noise expert)"
        return f"{of_all} is the first that differs{size}"


def first_difference(here: Sequence[Fingerprint], there: Sequence[Fingerprint]) -> StepDifference | None:
    """Compare the fingerprints of two runs. None if all are equal, or if one run has none."""
    sizes = {
        step: _relative(one["sketch"], other["sketch"])
        for step, (one, other) in enumerate(zip(here, there, strict=False))
        if one["sha256"] != other["sha256"]
    }
    if here and there and len(here) != len(there):
        sizes[min(len(here), len(there))] = None
    if not sizes:
        return None
    known = [size for size in sizes.values() if size is not None]
    first = min(sizes)
    return StepDifference(first, sizes[first], max(known) if len(known) == len(sizes) else None)


def _relative(one: Sequence[float], other: Sequence[float]) -> float | None:
    length = float(np.linalg.norm(other))
    return float(np.linalg.norm(np.subtract(one, other))) / length if length else None


def _fingerprint(clean: Tensor) -> Fingerprint:
    """Return hash and sketch of a clean estimate (1, C, T, H/8, W/8)."""
    values = np.ascontiguousarray(clean.detach().float().cpu().numpy()).ravel()
    digest = hashlib.sha256(str(tuple(clean.shape)).encode())
    digest.update(values.data)
    return {"sha256": digest.hexdigest()[:_HASH_DIGITS], "sketch": _sketch(values)}


def _sketch(values: npt.NDArray[np.float32]) -> list[float]:
    signed = np.zeros(-(-len(values) // _ROW) * _ROW, np.float32)
    np.multiply(values, _signs(len(values)), out=signed[: len(values)])
    sums = signed.reshape(-1, _ROW).sum(0, dtype=np.float64).reshape(-1, _NUMBERS).sum(0)
    return [float(f"{number:.{_DIGITS}g}") for number in sums]


@lru_cache(maxsize=1)  # all steps of a run have one length
def _signs(count: int) -> npt.NDArray[np.float32]:
    """Return a sign for each place: a hash of it (lowbias32 of Chris Wellons), the same on every machine."""
    mixed = np.arange(count, dtype=np.uint32)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        mixed = (mixed ^ (mixed >> shift)) * np.uint32(factor)
    mixed ^= mixed >> 16
    signs: npt.NDArray[np.float32] = np.where(mixed & 1, np.float32(1), np.float32(-1))
    return signs
