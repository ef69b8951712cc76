"""Request + runner -> what is supported, adjusted or impossible. Pure: no network, no weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import RequestError
from .base import WanRequest
from .limits import dated_limits
from .local_rules import LOCAL_RULES, Case, LocalAbilities, ModelFacts
from .report import Finding, Report
from .timing import output_fps

__all__ = ["check"]

_FAST_FPS = 120  # most displays and players end here


def check(
    request: WanRequest,
    runner: str = "local",
    family: ModelFacts | None = None,
    abilities: LocalAbilities | None = None,
) -> Report:
    """What `runner` would do with each field of the request, on a model of `family` when one is given.

    A value equal to the provider's default is a preference, which may be adjusted; any other is a demand.
    """
    if runner != "local":
        raise RequestError.of("runner", f"got {runner!r}", "give local, the one runner of this version")
    values = request.model_dump(mode="json")
    findings: list[Finding] = []
    if family is not None and request.task not in family.tasks:
        can = ", ".join(sorted(family.tasks))
        reason = f"it cannot do {request.task}, only {can}; load another model"
        findings.append(Finding("model", "impossible", family.name, None, reason))
    for field, info in type(request).model_fields.items():
        preference = not info.is_required() and getattr(request, field) in (info.default, None)
        case = Case(field, preference, values, family, abilities or LocalAbilities())
        findings.append(LOCAL_RULES[field](case))
    used = {**values, **{finding.field: finding.used for finding in findings}}
    findings.extend(_older_limits(request, values))
    findings.extend(_side_effects(used))
    return Report(
        runner=runner,
        kind=request.kind,
        model=None if family is None else family.name,
        findings=tuple(findings),
        price=0.0,
        price_note="your own machine",
    )


def _older_limits(request: WanRequest, values: Mapping[str, Any]) -> Iterator[Finding]:
    for field, value in values.items():
        for limit in dated_limits(request.contract, field)[:-1]:
            if value is not None and not limit.allows(value):
                reason = f"the {limit.source} ({limit.as_of}) allows only {limit}; a host may refuse it"
                yield Finding(field, "warning", value, value, reason)


def _side_effects(used: Mapping[str, Any]) -> Iterator[Finding]:
    """Things that happen as asked but that the user may not have meant."""
    if "num_interpolated_frames" in used:
        between = 0 if used["interpolator_model"] == "none" else used["num_interpolated_frames"]
        rate = used["frames_per_second"]
        fps = output_fps(rate, used["num_frames"], between, used["adjust_fps_for_interpolation"])
        if fps > _FAST_FPS:
            reason = f"the file plays at {fps} frames per second, more than most players show"
            yield Finding("frames_per_second", "warning", rate, rate, reason)
    negative = used.get("negative_prompt")
    if negative and used.get("guidance_scale") == 1 and used.get("guidance_scale_2", 1) in (1, None):
        reason = "has no effect while the guidance scale of every stage is 1"
        yield Finding("negative_prompt", "warning", negative, negative, reason)
