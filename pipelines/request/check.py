"""Checks a request for a runner: decides every value, and reports what is adjusted or impossible.

A check is pure. It uses no file, network, clock or random generator, so the same question gives the same
answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

from ..errors import RequestError
from .base import WanRequest
from .check_film import check_film
from .fal_rules import fal_findings, for_fal
from .field_case import FieldCase, LocalAbilities
from .field_rows import LOCAL
from .implied import implied_by, plan_name
from .local_rules import LOCAL_RULES
from .local_settings import LocalSettings
from .local_settings_rules import decided, elsewhere, settings_findings
from .media_facts import NOTHING_KNOWN, MediaFacts
from .model_facts import ModelFacts
from .negative_preset import preset_negative
from .novita_words import NovitaModel, for_novita, novita_findings
from .official import official_differences
from .prices import PRICES, PriceTable, estimate
from .prompt_length import long_prompts
from .report import Finding, Report, found_for_provider
from .resolved import Resolved
from .shots import is_film
from .side_effects import side_effects
from .sizes import choose_size

__all__ = ["RUNNERS", "check"]

RUNNERS = ("local", "fal", "novita")

_BY_NODES_ONLY = (
    "requests cannot run it; sample it with Wan Duet Two-Stage Sampler and the conditioning of ComfyUI's own "
    "node (for VACE that is WanVaceToVideo, which takes the last frames of a video too), or"
)


def check(
    request: WanRequest,
    runner: str = "local",
    family: ModelFacts | None = None,
    abilities: LocalAbilities | None = None,
    prices: PriceTable = PRICES,
    novita_model: NovitaModel = "Wan 2.1",
    media: MediaFacts = NOTHING_KNOWN,
    found: Sequence[Finding] = (),
    image_family: ModelFacts | None = None,
) -> Report:
    """Return what `runner` would do with each field of the request, and the request it would run.

    A value equal to the provider's default is a preference and may be adjusted. Any other is a demand.

    family:       the model of a local run.
    abilities:    what the local runner can use.
    prices:       of the providers.
    novita_model: the model to use at Novita.
    media:        facts about the input files, for a local run and for prices that depend on their length.
    found:        what was found in files before, such as the headers of LoRAs. They join the findings, and an
                  impossible one refuses the request.
    image_family: the model of shots that begin with an image; None for `family`.

    Raises RequestError for an unknown runner.
    """
    if runner not in RUNNERS:
        raise RequestError.of("runner", f"got {runner!r}", f"give one of {', '.join(RUNNERS)}")
    if is_film(request):
        each = partial(check, abilities=abilities, prices=prices, novita_model=novita_model)
        return check_film(request, runner, (family, image_family), each, found)
    here = runner == "local"
    if here and request.remote_only:
        reason = f"runs only at {request.provider}: use Run {request.provider}, or --on {request.provider}"
        findings, resolved = [Finding("kind", "impossible", request.kind, None, reason)], None
    elif here:
        findings, resolved = _resolve(request, family, abilities or LocalAbilities(), media)
    else:
        findings = fal_findings(request) if runner == "fal" else novita_findings(request, novita_model)
        findings = [*findings, *elsewhere(request.local)]
        sent = for_novita(request, novita_model) if runner == "novita" else for_fal(request)
        if sent is None or any(finding.status == "impossible" for finding in findings):
            resolved = None
        else:
            resolved = Resolved(sent, MappingProxyType(dict(sent)), media=media)
    changed = {finding.field: finding.used for finding in findings if finding.status == "adjusted"}
    used = {**request.model_dump(mode="json"), **changed}
    if here and resolved is not None:
        used["negative_prompt"] = resolved.values.get("negative_prompt")
    findings.extend(_media_notes(request, media) if here else ())
    in_files = found if here else found_for_provider(found, findings, runner)
    more = [*side_effects(request, runner, used, family, abilities or LocalAbilities()), *in_files]
    findings.extend(more)
    if any(finding.status == "impossible" for finding in more):
        resolved = None
    used_request = request if resolved is None else resolved.request
    known = {} if here else prices.get(used_request.endpoint, {})
    return Report(
        runner=runner,
        kind=request.kind,
        model=family.name if here and family is not None else None,
        findings=tuple(findings),
        price=estimate(used_request, runner, prices, media.lengths),
        resolved=resolved,
        expected_s=known.get("seconds"),
        official=official_differences(resolved, family) if here else "",
    )


def _media_notes(request: WanRequest, media: MediaFacts) -> Iterator[Finding]:
    for field, note in media.notes.items():
        yield Finding(field, "warning", getattr(request, field), None, note)


def _resolve(
    request: WanRequest, family: ModelFacts | None, abilities: LocalAbilities, media: MediaFacts
) -> tuple[list[Finding], Resolved | None]:
    """Return a finding per field for a local run, and the resolved request (None if a value is impossible).

    Values that the kind has no field for pass the same rules, as preferences.
    """
    implied = {**implied_by(request.task)}
    if family is not None:
        implied["frames_per_second"] = family.default_fps
    fields = request.model_dump(mode="json")
    preset = preset_negative(request.local, fields, family)
    named = {plan_name(field) for field in fields}
    everything = {**{name: value for name, value in implied.items() if name not in named}, **fields, **preset}

    def judge(field: str) -> Finding:
        preference = field not in fields or request.is_preference(field)
        case = FieldCase(request.task, field, preference, everything, family, abilities, media, request.local)
        return LOCAL_RULES[field].judge(case)

    remarks = () if family is None else _remarks(family, abilities, everything, request.local)
    judged = [judge(field) for field in everything if field in LOCAL_RULES]
    findings = [
        *_wrong_model(request, family, abilities),
        *remarks,
        *(item for item in judged if item.field in fields),
    ]
    asked = {plan_name(name): value for name, value in request if value is not None and name != LOCAL}
    adjusted = {plan_name(item.field): item.used for item in judged if item.status == "adjusted"}
    values = {**implied, **asked, **adjusted, **preset}
    findings += settings_findings(request.local, request.task, values, family, abilities)
    if any(finding.status == "impossible" for finding in findings):
        return findings, None
    size = None if family is None else choose_size({**implied, **asked}, family, media.size, request.local)
    resolved = MappingProxyType({**values, **decided(request.local, values)})
    return findings, Resolved(request, resolved, None if family is None else family.name, size, media)


def _wrong_model(
    request: WanRequest, family: ModelFacts | None, abilities: LocalAbilities
) -> Iterator[Finding]:
    """Yield a finding if the model cannot do the task, or if weights for it are missing."""
    if family is None:
        return
    if request.task not in family.tasks:
        others = " or ".join(family.able_to(request.task)) or "another model"
        can = f"it cannot do {request.task}, only {', '.join(sorted(family.tasks))}"
        reason = f"{f'{can};' if family.tasks else _BY_NODES_ONLY} load {others}"
        yield Finding("model", "impossible", family.name, None, reason)
    elif request.task in abilities.missing_weights:
        yield Finding("model", "impossible", family.name, None, abilities.missing_weights[request.task])


def _remarks(
    family: ModelFacts, abilities: LocalAbilities, values: Mapping[str, Any], local: LocalSettings | None
) -> Iterator[Finding]:
    """What a user may not expect of the loaded model."""
    for remark in abilities.remarks:
        yield Finding("model", "warning", family.name, family.name, remark)
    patched = abilities.patched_shift
    for field in ("shift", "flow_shift"):
        if patched is not None and values.get(field) not in (None, patched):
            reason = f"a patch on the model says {patched:g}, but the request's decides the noise levels"
            yield Finding(field, "warning", values[field], values[field], reason)
    yield from long_prompts(family, abilities, values, local)
