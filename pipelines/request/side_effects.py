"""Finds what a request that can run does, and its user may not expect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .base import WanRequest
from .distilled import distilled_findings
from .field_case import LocalAbilities
from .limits import dated_limits, why_refused
from .local_settings_rules import avoids_negative_prompt
from .model_facts import ModelFacts, experts_of
from .phase_rules import scales_used
from .prompt_length import surely_cut
from .prompt_ranges import texts_of_ranges
from .prompt_syntax import Reader, syntax_findings
from .report import Finding
from .timing import output_fps, trained_frames
from .window_rules import frames_at_once

__all__ = ["beyond_training", "side_effects"]

_SCALES = {"high": "guidance_scale", "low": "guidance_scale_2"}
_FAST_FPS = 120  # most displays and players end here
_RIFLEX_REACH = 2  # without training, arxiv.org/abs/2502.15894
_AGAINST_REPEATING = "; local.context_frames draws it in windows, local.riflex keeps it from repeating"


def side_effects(
    request: WanRequest,
    runner: str,
    used: Mapping[str, Any],
    family: ModelFacts | None,
    abilities: LocalAbilities,
) -> Iterator[Finding]:
    """Yield the warnings, and refusals of syntax that nobody can read.

    used:   {field: value} as the runner uses them.
    family: of a local run; a provider has its own model.
    """
    here = runner == "local"
    scales = scales_used(request.local if here else None, used, experts_of(family))
    used = {**used, **{_SCALES[expert]: max(found) for expert, found in scales.items()}}
    if runner == request.provider:
        yield from _older_limits(request, request.model_dump(mode="json"))
    yield from _fast_file(used)
    if not (here and avoids_negative_prompt(request.local)):
        yield from _idle_negative(used)
    yield from _long_clip(request, family if here else None, used)
    yield from distilled_findings(used, abilities.attached_loras if here else ())
    if not here:
        yield from surely_cut(used)
    yield from _syntax(request, runner, abilities)


def _older_limits(request: WanRequest, values: Mapping[str, Any]) -> Iterator[Finding]:
    for field, value in values.items():
        if value is None or why_refused(request.contract, field, value):
            continue
        for limit in dated_limits(request.contract, field)[:-1]:
            if not limit.allows(value):
                reason = f"the {limit.source} ({limit.as_of}) allows only {limit}; a provider may refuse it"
                yield Finding(field, "warning", value, value, reason)


def _fast_file(used: Mapping[str, Any]) -> Iterator[Finding]:
    between = 0 if used.get("interpolator_model") == "none" else used.get("num_interpolated_frames")
    adjusts, rate = used.get("adjust_fps_for_interpolation"), used.get("frames_per_second")
    if between and adjusts is not None and rate is not None:  # else the provider decides the rate of the file
        fps = output_fps(rate, used["num_frames"], between, adjusts)
        if fps > _FAST_FPS:
            reason = f"the file plays at {fps} frames per second, more than most players show"
            yield Finding("frames_per_second", "warning", rate, rate, reason)


def _idle_negative(used: Mapping[str, Any]) -> Iterator[Finding]:
    negative = used.get("negative_prompt")
    if negative and used.get("guidance_scale") == 1 and used.get("guidance_scale_2", 1) in (1, None):
        reason = "has no effect while the guidance scale of every stage is 1"
        yield Finding("negative_prompt", "warning", negative, negative, reason)


def _long_clip(request: WanRequest, family: ModelFacts | None, used: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield a warning about more frames than the model was trained on. Speech is a chain of such clips."""
    frames = None if request.task == "speech-to-video" else used.get("num_frames")
    if not isinstance(frames, int):  # text where a provider chooses it
        return
    if family is None:
        yield from beyond_training("num_frames", frames, trained_frames(request.task))
        return
    local, most = request.local, family.trained_frames
    if frames_at_once(local, frames) > most:
        if local is None or not local.riflex:
            yield from beyond_training("num_frames", frames, most, _AGAINST_REPEATING)
        elif frames > _RIFLEX_REACH * most:
            reason = (
                f"RIFLEx was shown for {_RIFLEX_REACH} times the {most} frames of the training, not for more"
            )
            yield Finding("num_frames", "warning", frames, frames, reason)


def beyond_training(field: str, frames: int, most: int, advice: str = "") -> Iterator[Finding]:
    """Yield a warning about more frames than `most`, which the model was trained on."""
    if frames > most:
        reason = f"the model was trained on {most} frames; longer clips tend to repeat or to drift{advice}"
        yield Finding(field, "warning", frames, frames, reason)


def _syntax(request: WanRequest, runner: str, abilities: LocalAbilities) -> list[Finding]:
    """Return the findings about syntax in the prompts, of `local` too."""
    prompts = {name: getattr(request, name, None) for name in ("prompt", "negative_prompt")}
    if runner != "local":
        return syntax_findings(prompts, "plain", "provider")
    reader: Reader = "here" if abilities.own_engine else "ComfyUI"
    if request.local is None:
        return syntax_findings(prompts, "plain", reader)
    prompts["local.nag_negative_prompt"] = request.local.nag_negative_prompt
    prompts |= texts_of_ranges("", request.local.prompt_ranges)
    return syntax_findings(prompts, request.local.prompt_syntax, reader)
