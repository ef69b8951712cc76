"""Compares a video of several shots with a new run of its request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..sampling.step_fingerprints import STEP_FINGERPRINTS, first_difference
from ..video.output import sidecar
from .receipt_comparison import Verification, by_size, different_entries, lowest_psnr
from .recorded_film import RecordedFilm
from .result import Result

__all__ = ["compared_film"]

_OF_THE_WHOLE = ("kind", "joins", "frames", "interpolator", "frames_sha256", "colour_drift")
_ROUNDED = ("latents_sha256", STEP_FINGERPRINTS)


def compared_film(
    file: Path, made: Result, beside: Mapping[str, Any], recorded: RecordedFilm
) -> Verification:
    """Say whether `file` and the receipt `beside` it are those of a new run.

    The first shot whose latents differ decides: those that continue it begin with other frames.
    """
    here = json.loads(sidecar(made.path).read_text(encoding="utf-8"))
    whole = [name for name in _OF_THE_WHOLE if here.get(name) != beside.get(name)]
    # The new run was given the seed of the receipt.
    asked = {"seed": beside["seed"], **beside["request"]}
    whole += ["request"] if asked != {**here["request"], "seed": beside["seed"]} else []
    shots = [_of_shot(one, other) for one, other in zip(here["shots"], beside["shots"], strict=True)]
    reasons = [f"a new run of the request has another {name}" for name in whole]
    reasons += [
        f"a new run of the request has another {name} of shot {number}"
        for number, names in enumerate(shots, 1)
        for name in names
    ]
    psnr = lowest_psnr(file, made.path)
    if psnr is None:
        return Verification("different", (*reasons, "the frames differ in number or size"))
    if not reasons and psnr == np.inf:
        return Verification("same bits", ("a new run has the same latents, frames and receipt",))
    reasons.append(f"its frames are at {psnr:.1f} dB PSNR of the file's")
    parted = next((number for number, names in enumerate(shots) if names), len(shots))
    allowed = [*_ROUNDED, "inputs"]  # the first image of a later shot is a frame of the one before
    rounded = set(whole) <= {"frames_sha256", "colour_drift"} and all(
        set(names) <= set(_ROUNDED if number == parted else allowed) for number, names in enumerate(shots)
    )
    if not rounded:
        return Verification("different", tuple(reasons))
    if parted == len(shots):
        return Verification("cannot tell", (*reasons, "its latents are equal: it was decoded otherwise"))
    if psnr == np.inf:
        return Verification("cannot tell", (*reasons, "the latents were rounded, or the receipt was changed"))
    shot = recorded.shots[parted]
    first = first_difference(here["shots"][parted].get(STEP_FINGERPRINTS, ()), shot.steps)
    if first is not None:
        reasons.append(f"shot {parted + 1}: {first.text(shot.plan.experts[shot.plan.start_step :])}")
    dtype = beside["shots"][parted]["model"].get("dtype")
    return by_size(psnr, first, dtype, reasons)


def _of_shot(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    names = different_entries(here, there)
    steps = here.get(STEP_FINGERPRINTS, []) != there.get(STEP_FINGERPRINTS, [])
    return names + ([STEP_FINGERPRINTS] if steps else [])
