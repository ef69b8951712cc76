"""Attaches a LoRA to an expert, or says why it would have no effect there."""

from __future__ import annotations

import math
from collections.abc import Set

from ...errors import LoraError
from ..recipe import Recipe
from .change import Change
from .coverage import Coverage, LoraReport, Misfit, describe_lora
from .delta import LoraDelta
from .lora_file import LoraFile
from .lora_names import is_image_path

__all__ = ["MATCH_AT_LEAST", "attach_lora", "cover", "refusal"]

# Share of a file's keys that must match. A LoRA of the right model misses an odd layer or two (a head
# or patch embedding of another task). One of another model misses nearly everything. In between lies no LoRA
# that we know. Keys of other networks (text encoder, VACE) do not count.
MATCH_AT_LEAST = 0.75


def attach_lora(
    recipe: Recipe, lora: LoraFile, strength: float, expert: str, *, allow_partial: bool = False
) -> tuple[Recipe, LoraReport]:
    """Return a recipe with the LoRA added at `strength`, and a report of what fits. Reads no tensor data.

    expert: "high" or "low", for messages and for files with tensors for both experts.

    Strength 0 returns the recipe unchanged, with a report.

    Raises LoraError if the strength is NaN or Inf, if nothing in the file fits this expert, or if less than
    MATCH_AT_LEAST of it fits and `allow_partial` is off.
    """
    if not math.isfinite(strength):
        raise LoraError(f"{lora.file.name}: scale {strength} is not a number; give a finite number")
    report = LoraReport(lora.file, expert, strength, describe_lora(lora), cover(recipe, lora, expert))
    reason = refusal(report)
    if reason and not (allow_partial and report.coverage.matched):
        raise LoraError(reason)
    deltas: dict[str, list[LoraDelta]] = {}
    for change in lora.changes_of(expert):
        if _has_place(recipe, change):
            deltas.setdefault(change.name, []).append(change.delta(lora.file, strength))
    return recipe.with_deltas(deltas), report


def cover(recipe: Recipe, lora: LoraFile, expert: str) -> Coverage:
    """Return how the keys of the file match the parameters of this expert."""
    matched: list[Change] = []
    misfit: list[Change] = []
    unmatched: list[str] = list(lora.unknown_keys)
    image_path: list[str] = []
    for change in lora.changes_of(expert):
        if change.name not in recipe.tensors:
            absent = image_path if is_image_path(change.name) else unmatched
            absent.extend(change.keys)
        else:
            (matched if _has_place(recipe, change) else misfit).append(change)
    changed = {change.name for change in matched}
    return Coverage(
        tensors=len(changed),
        matched=sum(len(change.keys) for change in matched),
        unmatched=tuple(sorted(unmatched)),
        image_path=tuple(sorted(image_path)),
        misfits=tuple(
            Misfit(change.keys[0], change.form.matrix, _matrix(recipe.tensors[change.name].shape))
            for change in misfit
        ),
        misfit_keys=sum(len(change.keys) for change in misfit),
        blocks=_share_of_blocks(recipe, changed),
        other_networks=lora.other_networks,
    )


def _share_of_blocks(recipe: Recipe, changed: Set[str]) -> tuple[float, ...]:
    """Of every block, the share of its weight matrices that are among `changed`: 0 to 1."""
    counts: dict[int, list[bool]] = {}
    for name, tensor in recipe.tensors.items():
        parts = name.split(".")
        if parts[0] == "blocks" and parts[-1] == "weight" and len(tensor.shape) > 1:
            counts.setdefault(int(parts[1]), []).append(name in changed)
    return tuple(sum(found) / len(found) for _, found in sorted(counts.items()))


def refusal(report: LoraReport) -> str:
    """Return why a LoRA with this report is refused; empty if it is applied."""
    coverage, base, intended = report.coverage, report.facts.base, report.facts.intended
    if coverage.matched and coverage.share >= MATCH_AT_LEAST:
        return ""
    found = (
        "; ".join(coverage.lines() if coverage.matched else coverage.lines()[1:])
        or "no key is for this expert"
    )
    fits = f"only {coverage.share:.0%} of its keys fit" if coverage.matched else "none of its keys fits"
    made_for = f"It seems to be made for {base.name}" if base.evidence else "It may not be made for Wan"
    if report.of_other_expert:
        made_for += f", for the {intended.expert}-noise expert"
    allowing = "allow_partial, allow_partial_loras of a runner, or --allow-partial-loras"
    advice = f"; to apply the keys that fit, allow a partial match ({allowing})" if coverage.matched else ""
    return f"{report.file.name}: {fits} the {report.expert}-noise expert: {found}. {made_for}{advice}"


def _has_place(recipe: Recipe, change: Change) -> bool:
    target = recipe.tensors.get(change.name)
    return target is not None and change.fits(target.shape)


def _matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    return shape[0], math.prod(shape[1:])
