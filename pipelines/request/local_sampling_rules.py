"""What the settings of size, steps, solver, LoRAs and negative prompt in `local` can be in a run."""

from __future__ import annotations

from collections.abc import Iterator

from .lora_weight import why_not_used
from .phase_rules import impossible_phases, steps_stated
from .report import Finding
from .settings_case import SettingsCase
from .sizes import nearest_size

__all__ = ["impossible_sampling", "unexpected_sampling"]

_OWN_STEPS = {"lightning": (4, 4), "dmd": (3, 3), "rcm": (1, 4)}  # fewest and most, of distilled weights


def impossible_sampling(case: SettingsCase) -> Iterator[Finding]:
    """Yield a refusal per setting that this run cannot have."""
    yield from _size(case)
    yield from _solver(case)
    yield from _experts(case)
    yield from _loras(case)
    yield from impossible_phases(case)
    official = "" if case.family is None else case.family.negative_prompt
    if case.local.negative_preset != "none" and case.values.get("negative_prompt") not in (
        None,
        "",
        official,
    ):
        reason = "the request has a negative prompt; leave one of the two out"
        yield case.finding("negative_preset", "impossible", reason)


def unexpected_sampling(case: SettingsCase) -> Iterator[Finding]:
    """Yield a warning per setting whose effect may surprise."""
    local, family = case.local, case.family
    if local.width is not None and local.height is not None and family is not None and family.own_sizes:
        sizes = next(iter(family.sizes.values())).values()
        if (local.width, local.height) not in sizes:
            known = ", ".join(f"{width}x{height}" for width, height in sizes)
            yield case.finding("width", "warning", f"{family.name} was trained on {known} alone")


def _size(case: SettingsCase) -> Iterator[Finding]:
    sides = {"width": case.local.width, "height": case.local.height}
    given = {name: side for name, side in sides.items() if side is not None}
    missing = next((name for name in sides if name not in given), None)
    for name, side in given.items():
        if missing is not None:
            yield case.finding(name, "impossible", f"a size has two sides; give local.{missing} too")
        elif case.family is not None and side % case.family.size_multiple:
            near, _ = nearest_size(case.family, side, side)
            step = case.family.size_multiple
            reason = f"{case.family.name} needs multiples of {step} pixels; the nearest is {near}"
            yield case.finding(name, "impossible", reason)


def _solver(case: SettingsCase) -> Iterator[Finding]:
    local, own = case.local, case.values.get("grid")
    if own is not None:
        if local.solver not in ("auto", own):
            yield case.finding("solver", "impossible", f"the weights are distilled for {own}; leave it out")
        if local.sigmas is not None:
            reason = f"the weights are distilled for the levels of {own}; leave it out"
            yield case.finding("sigmas", "impossible", reason)
        stated, (fewest, most) = steps_stated(local), _OWN_STEPS[own]
        if stated is not None and not fewest <= stated[1] <= most:
            reason = f"has {stated[1]} steps, but the weights are distilled for {most}; give {most}"
            yield case.finding(stated[0], "impossible", reason)
    elif local.solver in _OWN_STEPS:
        fewest, most = _OWN_STEPS[local.solver]
        if local.sigmas is None:
            if not fewest <= case.values["num_inference_steps"] <= most:
                reason = f"{local.solver} is distilled for {most} steps; give num_inference_steps {most}"
                yield case.finding("solver", "impossible", reason)
        elif local.solver != "rcm":
            other = "euler" if local.solver == "lightning" else "rcm"
            reason = f"{local.solver} has its own levels; use {other} with sigmas"
            yield case.finding("solver", "impossible", reason)


def _experts(case: SettingsCase) -> Iterator[Finding]:
    local, steps = case.local, case.values["num_inference_steps"]
    given = [name for name in ("boundary", "high_steps") if getattr(local, name) is not None]
    if case.family is not None and case.family.experts == 1:
        for name in given:
            reason = f"{case.family.name} has one expert, which runs every step; leave it out"
            yield case.finding(name, "impossible", reason)
    elif len(given) == 2:
        yield case.finding(
            "high_steps", "impossible", "boundary splits the steps too; leave one of the two out"
        )
    elif local.high_steps is not None and local.high_steps > steps:
        yield case.finding("high_steps", "impossible", f"there are {steps} steps; give {steps} or fewer")


def _loras(case: SettingsCase) -> Iterator[Finding]:
    one_expert = case.family is not None and case.family.experts == 1
    for index, lora in enumerate(case.local.loras_per_stage):
        refused = why_not_used(lora.path, lora.weight_name)
        if refused is None and one_expert and lora.low not in (None, lora.high):
            refused = "low differs from high, but the model has one expert; leave it out"
        if refused is not None:
            reason = f"local.loras_per_stage[{index}].{refused}"
            yield case.finding("loras_per_stage", "impossible", reason)
            return
