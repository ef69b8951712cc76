"""What `prompt_ranges` and `prompt_overlap` do in a run on this machine, and where they cannot be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate, pairwise

from .prompt_ranges import latent_lengths
from .report import Finding
from .settings_case import SettingsCase
from .timing import LATENT_STRIDE

__all__ = ["RANGE_MEANINGS", "impossible_ranges", "unexpected_ranges"]

RANGE_MEANINGS: Mapping[str, str] = {
    "prompt_ranges": "each latent frame attends to the prompt of the request followed by the words of its "
    "range, encoded as one text. Borders are moved to whole latent frames: 4n+1 frames from the first one. "
    "The negative prompt is that of the whole clip. Impossible for speech.",
    "prompt_overlap": "in whole latent frames, of four frames each. More than a range has are impossible.",
}
_HOST = "this model is one of ComfyUI, whose attention we do not change; leave it out"
_SHOWN = 40  # characters of a prompt


def impossible_ranges(case: SettingsCase) -> Iterator[Finding]:
    """Yield a refusal per setting that this run cannot have."""
    asked = [name for name in case.local.asked() if name in RANGE_MEANINGS]
    if not case.own_engine:
        yield from (case.finding(name, "impossible", _HOST) for name in asked)
        return
    if case.task == "speech-to-video":
        reason = "a speech model has one prompt; leave it out"
        yield from (case.finding(name, "impossible", reason) for name in asked)
        return
    if not case.local.prompt_ranges:
        return
    try:
        shortest = min(_lengths(case))
    except ValueError as error:
        yield case.finding("prompt_ranges", "impossible", str(error))
        return
    if case.local.prompt_overlap // LATENT_STRIDE > shortest:
        reason = f"the shortest range has {shortest} latent frames; give {shortest * LATENT_STRIDE} or less"
        yield case.finding("prompt_overlap", "impossible", reason)


def unexpected_ranges(case: SettingsCase) -> Iterator[Finding]:
    """Yield where the ranges lie, and a warning where a setting does nothing."""
    local = case.local
    if len(local.prompt_ranges) > 1:
        yield case.finding("prompt_ranges", "warning", ", ".join(_places(case)))
        if case.values.get("reverse_video"):
            reason = "the video is reversed after it is drawn, so it begins with the last range"
            yield case.finding("prompt_ranges", "warning", reason)
    if local.prompt_overlap and len(local.prompt_ranges) < 2:
        yield case.finding("prompt_overlap", "warning", "does nothing without two prompt_ranges")
    elif 0 < local.prompt_overlap < LATENT_STRIDE:
        reason = f"does nothing below {LATENT_STRIDE} frames, which are a latent frame"
        yield case.finding("prompt_overlap", "warning", reason)


def _places(case: SettingsCase) -> Iterator[str]:
    """Yield the pixel frames of each range and its words."""
    ends = [(count - 1) * LATENT_STRIDE + 1 for count in accumulate(_lengths(case))]
    for one, (first, end) in zip(case.local.prompt_ranges, pairwise([0, *ends]), strict=True):
        words = one.prompt if len(one.prompt) <= _SHOWN else f"{one.prompt[:_SHOWN]}..."
        yield f"frames {first}-{min(end, case.values['num_frames']) - 1}: {words!r}"


def _lengths(case: SettingsCase) -> tuple[int, ...]:
    values = case.values
    return latent_lengths(case.local.prompt_ranges, values["num_frames"], values["frames_per_second"])
