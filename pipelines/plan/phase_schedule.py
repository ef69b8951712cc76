"""Decides the expert, the guidance scale and the LoRA strengths of every step, and joins equal steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from ..errors import RequestError
from ..request.local_settings import LocalSettings
from ..request.lora_weight import StageLoRA
from ..request.phases import MovingLoRA, RequestPhase, experts_named, moving_loras, stated_steps
from ..request.step_values import at_each
from .sigmas import step_scales

__all__ = [
    "PhaseSchedule",
    "PlannedPhase",
    "lora_files",
    "planned_phases",
]


@dataclass(frozen=True)
class PlannedPhase:
    """Consecutive steps in which nothing changes.

    strengths: of each of `lora_files`, added to the LoRAs that act in the whole run.
    """

    expert: str
    steps: int
    guidance: float
    strengths: tuple[float, ...] = ()


@dataclass(frozen=True)
class PhaseSchedule:
    """The phases of all steps of a run, in order. Neighbours differ."""

    phases: tuple[PlannedPhase, ...]

    def as_dict(self) -> list[dict[str, Any]]:
        """Return JSON values; `from_dict` gives an equal value back."""
        return [{**asdict(phase), "strengths": list(phase.strengths)} for phase in self.phases]

    @classmethod
    def from_dict(cls, data: Iterable[Mapping[str, Any]]) -> PhaseSchedule:
        """Raises TypeError when keys are unknown, KeyError when one is missing."""
        return cls(tuple(PlannedPhase(**{**one, "strengths": tuple(one["strengths"])}) for one in data))

    @property
    def scales(self) -> tuple[float, ...]:
        """The guidance scale of every step."""
        return tuple(phase.guidance for phase in self.phases for _ in range(phase.steps))

    def plain_guidance(self, guidance: Mapping[str, float]) -> dict[str, float]:
        """Return the scale of each expert, where it has one alone. guidance: for the others."""
        found = {phase.expert: phase.guidance for phase in self.phases}
        kept = {name for name, scale in found.items() if self._scales_of(name) == {scale}}
        return {**guidance, **{name: found[name] for name in kept}}

    def says(self, experts: Sequence[str], guidance: Mapping[str, float]) -> bool:
        """Return whether experts and guidance say all that the phases say."""
        return not self.moves and self.scales == step_scales(experts, guidance)

    @property
    def moves(self) -> bool:
        """Whether a phase has a LoRA of its own."""
        return any(any(phase.strengths) for phase in self.phases)

    def _scales_of(self, expert: str) -> set[float]:
        return {phase.guidance for phase in self.phases if phase.expert == expert}

    @property
    def named(self) -> dict[str, PlannedPhase]:
        """{name: its first phase} of the networks: each expert with each set of strengths.

        An expert without a LoRA of `lora_files` has its own name, the others are numbered: "high+1".
        """
        found: dict[tuple[str, tuple[float, ...]], PlannedPhase] = {}
        for phase in self.phases:
            found.setdefault((phase.expert, phase.strengths), phase)
        with_loras = [key for key in found if any(key[1])]
        numbers = {
            key: [other for other in with_loras if other[0] == key[0]].index(key) + 1 for key in with_loras
        }
        return {
            f"{phase.expert}+{numbers[key]}" if key in numbers else phase.expert: phase
            for key, phase in found.items()
        }

    @property
    def networks(self) -> tuple[str, ...]:
        """The name of the network of every step."""
        names = {(one.expert, one.strengths): name for name, one in self.named.items()}
        return tuple(names[one.expert, one.strengths] for one in self.phases for _ in range(one.steps))


def lora_files(local: LocalSettings | None) -> tuple[tuple[str, str | None], ...]:
    """Return (path, weight_name) of the LoRAs whose strength changes between steps, each once."""
    return tuple(dict.fromkeys(lora.file for lora in _moving(local)))


def planned_phases(
    local: LocalSettings | None, experts: Sequence[str], guidance: Mapping[str, float]
) -> PhaseSchedule:
    """Return the phases of a run. A run without `local` has one for each expert.

    experts:  of every step, from `expert_split`. guidance: the request's scale per expert.

    Raises RequestError that names phase and field when a list does not fit its steps, or a phase has none.
    """
    places = _places(() if local is None else local.phases, experts, len(guidance))
    scales = _scales(local, experts, guidance, places)
    strengths = _strengths(local, experts, places)
    joined = groupby(zip(experts, scales, strengths, strict=True))
    return PhaseSchedule(
        tuple(PlannedPhase(name, len(list(same)), scale, of) for (name, scale, of), same in joined)
    )


def _moving(local: LocalSettings | None) -> Iterator[MovingLoRA]:
    return iter(()) if local is None else moving_loras(local.phases, local.loras_per_stage)


def _places(phases: Sequence[RequestPhase], experts: Sequence[str], count: int) -> list[range]:
    """Return the steps of each phase. count: of the experts of the model.

    The phases of an expert share its steps; the first of them have one more where they cannot be equal.
    """
    if stated_steps(phases) is not None:
        lengths = [phase.steps or 0 for phase in phases]
    else:
        named = experts_named(phases, count)
        lengths = [
            _share(experts.count(name), named.count(name), named[:index].count(name))
            for index, name in enumerate(named)
        ]
        for index, length in enumerate(lengths):
            if not length:
                name = named[index]
                found = f"has none of the {experts.count(name)} steps of the {name}-noise expert"
                raise _wrong(f"phases[{index}].steps", found, "give the steps of each phase")
    starts = [sum(lengths[:index]) for index in range(len(lengths))]
    if phases and stated_steps(phases) is None and experts_named(phases, count)[0] == "low":
        starts = [start + experts.count("high") for start in starts]
    return [range(start, start + length) for start, length in zip(starts, lengths, strict=True)]


def _share(steps: int, phases: int, index: int) -> int:
    return steps // phases + (index < steps % phases)


def _scales(
    local: LocalSettings | None, experts: Sequence[str], guidance: Mapping[str, float], places: list[range]
) -> tuple[float, ...]:
    """Return the guidance scale of every step."""
    if local is not None and local.guidance is not None:
        if len(local.guidance) != len(experts):
            fix = f"give one for each of the {len(experts)} steps"
            raise _wrong("guidance", f"has {len(local.guidance)} values", fix)
        return local.guidance
    scales = list(step_scales(experts, guidance))
    for index, (phase, steps) in enumerate(zip(() if local is None else local.phases, places, strict=True)):
        if phase.guidance is not None:
            scales[steps.start : steps.stop] = _at_each(
                f"phases[{index}].guidance", phase.guidance, len(steps)
            )
    return tuple(scales)


def _strengths(
    local: LocalSettings | None, experts: Sequence[str], places: list[range]
) -> list[tuple[float, ...]]:
    """Return the strength of each of `lora_files` at every step."""
    files = lora_files(local)
    table = [[0.0] * len(files) for _ in experts]
    for moving in _moving(local):
        column = files.index(moving.file)
        for field, value, steps in _moments(moving, experts, places):
            for step, strength in zip(steps, _at_each(field, value, len(steps)), strict=True):
                table[step][column] = strength
    return [tuple(row) for row in table]


def _moments(
    moving: MovingLoRA, experts: Sequence[str], places: list[range]
) -> Iterator[tuple[str, float | tuple[float, ...] | str, Sequence[int]]]:
    """Yield (field, value, steps) of a LoRA: of its phase, or of each expert."""
    lora = moving.lora
    if not isinstance(lora, StageLoRA):
        yield f"{moving.field}.scale", lora.scale, places[moving.phase or 0]
        return
    low = lora.high if lora.low is None else lora.low
    for name, value in (("high", lora.high), ("low", low)):
        steps = [step for step, expert in enumerate(experts) if expert == name]
        if steps:
            yield f"{moving.field}.{name}", value, steps


def _at_each(field: str, value: float | tuple[float, ...] | str, steps: int) -> tuple[float, ...]:
    try:
        return at_each(value, steps)
    except ValueError as error:
        found, _, fix = str(error).partition("; ")
        raise _wrong(field, found, fix or f"give steps from 0 to {steps - 1}") from None


def _wrong(field: str, found: str, fix: str) -> RequestError:
    return RequestError.of(f"local.{field}", found, fix)
