"""What a step cache does in a run on this machine, and where there is none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .report import Finding
from .settings_case import SettingsCase

__all__ = ["STEP_CACHE_MEANINGS", "impossible_step_cache", "unexpected_step_cache"]

STEP_CACHE_MEANINGS: Mapping[str, str] = {
    "step_cache": "in place of acceleration. first-block and magcache compute the first and the last block "
    "of each forward and skip those between; easycache skips whole forwards. The receipt counts them. "
    "Impossible for speech and turbo kinds, with context_frames and with several GPUs, and magcache with a "
    "model that was not measured.",
    "step_cache_threshold": "first-block: relative change of the first block. magcache: error of the "
    "residual's size, added up since it was computed. easycache: expected relative change of the "
    "velocity, added up too.",
}
_HOST = (
    "this model is one of ComfyUI, which has step caches of its own; patch the MODEL with EasyCache before "
    "Wan Duet Model from ComfyUI, and leave this out"
)


def impossible_step_cache(case: SettingsCase) -> Iterator[Finding]:
    """Yield a refusal where this run can have no step cache."""
    local = case.local
    if local.step_cache == "off":
        return
    if not case.own_engine:
        yield case.finding("step_cache", "impossible", _HOST)
    elif case.task == "speech-to-video":
        yield case.finding("step_cache", "impossible", "a speech model has no step cache; leave it out")
    elif case.task.startswith("turbo-"):
        reason = "four steps are too few to skip any; leave it out"
        yield case.finding("step_cache", "impossible", reason)
    elif local.context_frames is not None:
        reason = "windows change from step to step, so none can be skipped; leave it out, or context_frames"
        yield case.finding("step_cache", "impossible", reason)
    elif local.step_cache == "magcache" and case.family is not None and not case.family.mag_cache:
        reason = f"MagCache was not measured on {case.family.name}; use first-block or easycache"
        yield case.finding("step_cache", "impossible", reason)


def unexpected_step_cache(case: SettingsCase) -> Iterator[Finding]:
    """Yield a warning: it changes the result, or a threshold does nothing."""
    if case.local.step_cache != "off":
        reason = "lossy by choice: steps that are expected to change little are skipped; off computes all"
        yield case.finding("step_cache", "warning", reason)
    elif case.local.step_cache_threshold is not None:
        yield case.finding("step_cache_threshold", "warning", "does nothing while step_cache is off")
