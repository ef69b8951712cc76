"""What `phases` and `guidance` of `local` can be in a run, and which fields of a request they replace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .local_settings import LocalSettings
from .lora_weight import why_not_used
from .phases import experts_named, moving_loras, stated_steps
from .report import Finding
from .settings_case import SettingsCase
from .step_values import at_each, is_constant, numbers_of

__all__ = ["impossible_phases", "scales_replaced", "scales_used", "steps_stated"]


def steps_stated(local: LocalSettings | None) -> tuple[str, int] | None:
    """Return (setting, number) of the steps that a setting states; None where none does."""
    if local is None:
        return None
    if local.sigmas is not None:
        return "sigmas", len(local.sigmas) - 1
    if (steps := stated_steps(local.phases)) is not None:
        return "phases", steps
    return None if local.guidance is None else ("guidance", len(local.guidance))


def scales_replaced(local: LocalSettings | None, experts: int) -> Mapping[str, str]:
    """Return {expert: setting} of the experts whose guidance scale no field of the request decides."""
    if local is None:
        return {}
    if local.guidance is not None:
        return dict.fromkeys(("high", "low"), "local.guidance")
    unstated: set[str] = set()
    named = experts_named(local.phases, experts)
    for expert, phase in zip(named, local.phases, strict=True):
        if phase.guidance is None:
            unstated.add(expert)
    return {expert: "local.phases" for expert in named if expert not in unstated}


def scales_used(
    local: LocalSettings | None, values: Mapping[str, Any], experts: int
) -> Mapping[str, frozenset[float]]:
    """Return {expert: its guidance scales in a run}. values: {plan name: value} of the request."""
    names = ("high", "low")[:experts] if values.get("guidance_scale_2") is not None else ("high",)
    if local is not None and local.guidance is not None:
        return dict.fromkeys(names, frozenset(local.guidance))
    phases, replaced = () if local is None else local.phases, scales_replaced(local, experts)
    fields = {"high": values.get("guidance_scale"), "low": values.get("guidance_scale_2")}
    found: dict[str, set[Any]] = {
        name: set() if name in replaced else {fields[name]} - {None} for name in names
    }
    for name, phase in zip(experts_named(phases, experts), phases, strict=True):
        found.setdefault(name, set()).update(() if phase.guidance is None else numbers_of(phase.guidance))
    return {name: frozenset(scales) for name, scales in found.items() if scales}


def impossible_phases(case: SettingsCase) -> Iterator[Finding]:
    """Yield a refusal per setting that this run cannot have. The reason names phase and field."""
    if case.local.phases:
        reason = next(_why_not(case), None)
        if reason is not None:
            yield case.finding("phases", "impossible", reason)
    reason = next(_why_no_guidance(case), None)
    if reason is not None:
        yield case.finding("guidance", "impossible", reason)
    for index, lora in enumerate(case.local.loras_per_stage):
        if lora.moves and case.task == "speech-to-video":
            reason = f"local.loras_per_stage[{index}]: speech keeps the strength of a LoRA; give one number"
            yield case.finding("loras_per_stage", "impossible", reason)
            return


def _why_not(case: SettingsCase) -> Iterator[str]:
    """Yield what is wrong with the phases."""
    local, phases, steps = case.local, case.local.phases, case.values["num_inference_steps"]
    if case.task == "speech-to-video":
        yield "a clip of speech has one phase; leave them out, or use local.guidance"
    experts = 2 if case.family is None else case.family.experts
    named = experts_named(phases, experts)
    for index, (phase, expert) in enumerate(zip(phases, named, strict=True)):
        if experts == 1 and expert == "low":
            yield f"phases[{index}].expert: is low, but the model has one expert; give high, or leave it out"
        if index and named[index - 1] == "low" and expert == "high":
            yield f"phases[{index}].expert: is high after low; the high-noise expert comes first"
        if experts == 2 and len(phases) == 1 and phase.expert is None:
            yield "phases[0].expert: missing in the only phase; give high or low"
        if (phase.steps is None) != (phases[0].steps is None):
            given = _given(phase.steps), _given(phases[0].steps)
            yield f"phases[{index}].steps: {given[0]}, but phases[0].steps {given[1]}; give all or none"
        yield from _lists(f"phases[{index}]", phase.steps, {"guidance": phase.guidance})
        for number, lora in enumerate(phase.loras):
            field = f"phases[{index}].loras[{number}]"
            yield from _lists(field, phase.steps, {"scale": lora.scale})
            if refused := why_not_used(lora.path, lora.weight_name):
                yield f"{field}.{refused}"
    yield from _twice(case)
    stated = stated_steps(phases)
    if stated is None and len(phases) > steps:
        yield f"{len(phases)} phases for {steps} steps; give fewer"
    if stated not in (None, steps):
        told = " + ".join(str(phase.steps) for phase in phases)
        yield f"phases[].steps: {told} = {stated}, but num_inference_steps is {steps}; make both equal"
    for name in ("boundary", "high_steps"):
        if stated is not None and getattr(local, name) is not None:
            yield f"the phases say which expert runs each step; leave local.{name} out"
    if local.guidance is not None:
        scaled = [f"phases[{index}].guidance" for index, one in enumerate(phases) if one.guidance is not None]
        if scaled:
            yield f"{scaled[0]}: local.guidance has the scale of each step; leave one of the two out"


def _given(steps: int | None) -> str:
    return "is missing" if steps is None else f"is {steps}"


def _lists(place: str, steps: int | None, fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with values that change from step to step."""
    for field, value in fields.items():
        if is_constant(value):
            continue
        if steps is None:
            yield f"{place}.{field}: changes from step to step; give the steps of each phase too"
            continue
        try:
            at_each(value, steps)
        except ValueError as error:
            yield f"{place}.{field}: {error}"


def _twice(case: SettingsCase) -> Iterator[str]:
    """Yield a LoRA that two entries would give two strengths at the same step."""
    seen: dict[tuple[int | None, tuple[str, str | None]], str] = {}
    for moving in moving_loras(case.local.phases, case.local.loras_per_stage):
        other = seen.get((moving.phase, moving.file)) or seen.get((None, moving.file))
        if other is not None:
            yield f"{moving.field}.path: {moving.lora.path} is in {other} too; keep one of the two"
        seen[moving.phase, moving.file] = moving.field


def _why_no_guidance(case: SettingsCase) -> Iterator[str]:
    guidance, steps = case.local.guidance, case.values["num_inference_steps"]
    if guidance is not None and len(guidance) != steps:
        yield f"{len(guidance)} values, but num_inference_steps is {steps}; give one for each step"
