"""Request + runner -> what is supported, adjusted or impossible. Pure: no network, no weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..errors import RequestError
from .base import WanRequest
from .case import Case, LocalAbilities, ModelFacts
from .fal_rules import fal_findings
from .limits import dated_limits
from .local_rules import LOCAL_RULES
from .novita_words import NovitaModel, for_novita, novita_findings
from .prices import PRICES, PriceTable, estimate
from .report import Finding, Report
from .timing import output_fps

__all__ = ["RUNNERS", "check", "check_all"]

RUNNERS = ("local", "fal", "novita")
_FAST_FPS = 120  # most displays and players end here


def check(
    request: WanRequest,
    runner: str = "local",
    family: ModelFacts | None = None,
    abilities: LocalAbilities | None = None,
    prices: PriceTable = PRICES,
    novita_model: NovitaModel = "Wan 2.1",
) -> Report:
    """What `runner` would do with each field of the request.

    A value equal to the provider's default is a preference, which may be adjusted; any other is a demand.
    family:    for local: the model it would run on.
    abilities: for local: what the runner has at hand.
    prices:    for the others: what they ask.
    novita_model: for novita: which of its models is to draw.
    """
    if runner not in RUNNERS:
        raise RequestError.of("runner", f"got {runner!r}", f"give one of {', '.join(RUNNERS)}")
    local = runner == "local"
    if local:
        findings = _local_findings(request, family, abilities or LocalAbilities())
    else:
        findings = fal_findings(request) if runner == "fal" else novita_findings(request, novita_model)
    values = request.model_dump(mode="json")
    used = {**values, **{finding.field: finding.used for finding in findings}}
    if runner in ("local", request.provider):
        findings.extend(_older_limits(request, values))
    findings.extend(_side_effects(used))
    sent = for_novita(request, novita_model) if runner == "novita" else request
    return Report(
        runner=runner,
        kind=request.kind,
        model=family.name if local and family is not None else None,
        findings=tuple(findings),
        price=estimate(sent or request, runner, prices),
    )


def check_all(
    request: WanRequest,
    runners: Sequence[str] = RUNNERS,
    family: ModelFacts | None = None,
    abilities: LocalAbilities | None = None,
    prices: PriceTable = PRICES,
    novita_model: NovitaModel = "Wan 2.1",
) -> list[Report]:
    """The reports of several runners, to lay side by side."""
    return [check(request, runner, family, abilities, prices, novita_model) for runner in runners]


def _local_findings(
    request: WanRequest, family: ModelFacts | None, abilities: LocalAbilities
) -> list[Finding]:
    findings: list[Finding] = []
    if request.task not in abilities.tasks:
        can = ", ".join(sorted(abilities.tasks))
        reason = f"this version does not run {request.task} on this machine, only {can}"
        findings.append(Finding("kind", "impossible", request.kind, None, reason))
    elif family is not None and request.task not in family.tasks:
        can = ", ".join(sorted(family.tasks & abilities.tasks)) or "nothing that this version runs"
        others = " or ".join(family.able_to(request.task)) or "another model"
        reason = f"it cannot do {request.task}, only {can}; load {others}"
        findings.append(Finding("model", "impossible", family.name, None, reason))
    elif family is not None and request.task in abilities.lacking:
        reason = abilities.lacking[request.task]
        findings.append(Finding("model", "impossible", family.name, None, reason))
    values = request.model_dump(mode="json")
    for field in type(request).model_fields:
        case = Case(request.task, field, request.is_preference(field), values, family, abilities)
        findings.append(LOCAL_RULES[field].judge(case))
    return findings


def _older_limits(request: WanRequest, values: Mapping[str, Any]) -> Iterator[Finding]:
    for field, value in values.items():
        for limit in dated_limits(request.contract, field)[:-1]:
            if value is not None and not limit.allows(value):
                reason = f"the {limit.source} ({limit.as_of}) allows only {limit}; a host may refuse it"
                yield Finding(field, "warning", value, value, reason)


def _side_effects(used: Mapping[str, Any]) -> Iterator[Finding]:
    """Things that happen as asked but that the user may not have meant."""
    between = 0 if used.get("interpolator_model") == "none" else used.get("num_interpolated_frames")
    if between:
        rate = used["frames_per_second"]
        fps = output_fps(rate, used["num_frames"], between, used["adjust_fps_for_interpolation"])
        if fps > _FAST_FPS:
            reason = f"the file plays at {fps} frames per second, more than most players show"
            yield Finding("frames_per_second", "warning", rate, rate, reason)
    negative = used.get("negative_prompt")
    if negative and used.get("guidance_scale") == 1 and used.get("guidance_scale_2", 1) in (1, None):
        reason = "has no effect while the guidance scale of every stage is 1"
        yield Finding("negative_prompt", "warning", negative, negative, reason)
