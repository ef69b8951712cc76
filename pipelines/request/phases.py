"""The phases of a run: consecutive steps with an expert, a guidance scale and LoRAs of their own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import BeforeValidator, Field, field_validator
from pydantic_core import PydanticCustomError

from .lora_weight import LoRAWeight, PhaseLoRA, StageLoRA
from .step_values import OptionalStepValues, strongest
from .strict_model import UNREADABLE, StrictModel

__all__ = ["MovingLoRA", "Phases", "RequestPhase", "experts_named", "moving_loras", "stated_steps"]

_PART = re.compile(r"\s*(?:(high|low)\b\s*)?(?:(\d+)\s*:\s*)?([^\s:]+)\s*")
_WANTED = (
    'give guidance scales such as "3.5, 1, 1", with expert and steps "high 2: 3.5, low 4: 1", or a JSON list'
)


class RequestPhase(StrictModel):
    """Consecutive steps of a run. Phases follow each other in their order.

    expert:   None: the last phase is the low-noise expert's, the others are the high-noise expert's.
    steps:    None in all phases: the phases of an expert share its steps.
    guidance: a scale of 0 or more, or one for each step. None: the scale that the request has for the expert.
    loras:    added to those of the request.
    """

    contract: ClassVar[str] = "Phase"

    expert: Literal["high", "low"] | None = None
    steps: int | None = Field(None, ge=1, le=1000)
    guidance: OptionalStepValues = None
    loras: Annotated[tuple[PhaseLoRA, ...], Field(strict=False)] = ()

    @field_validator("guidance")
    @classmethod
    def _is_not_negative(cls, guidance: Any) -> Any:
        numbers = guidance if isinstance(guidance, tuple) else () if guidance is None else (guidance,)
        if any(isinstance(number, float) and number < 0 for number in numbers):
            raise PydanticCustomError(UNREADABLE, "give scales of 0 or more")
        return guidance


def _read_text(value: Any) -> Any:
    """Return phases written as text in the form of JSON: "3.5, 1, 1", or "high 2: 3.5, low 4: 1"."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return ()
    return tuple(_phase(part) for part in value.split(","))


def _phase(text: str) -> dict[str, Any]:
    match = _PART.fullmatch(text)
    try:
        expert, steps, guidance = match.groups()  # type: ignore[union-attr]
        found = {"expert": expert, "steps": steps and int(steps), "guidance": float(guidance)}
    except (AttributeError, ValueError):
        raise PydanticCustomError(UNREADABLE, _WANTED) from None
    return {name: value for name, value in found.items() if value is not None}


# Not strict for the container: JSON has lists, frozen data has tuples.
Phases = Annotated[tuple[RequestPhase, ...], Field(strict=False), BeforeValidator(_read_text)]


def stated_steps(phases: Sequence[RequestPhase]) -> int | None:
    """Return the steps of all phases together. None unless each phase states its own."""
    steps = [phase.steps for phase in phases]
    return None if not steps or None in steps else sum(filter(None, steps))


def experts_named(phases: Sequence[RequestPhase], experts: int) -> tuple[str, ...]:
    """Return the expert of each phase, for a model with one or two experts."""
    last = len(phases) - 1
    return tuple(
        phase.expert or ("low" if experts == 2 and index == last > 0 else "high")
        for index, phase in enumerate(phases)
    )


class MovingLoRA(NamedTuple):
    """A LoRA whose strength changes during a run.

    field: its place in the request, for messages. phase: the phase that has it; None for one of a stage.
    """

    field: str
    lora: PhaseLoRA | StageLoRA
    phase: int | None = None

    @property
    def file(self) -> tuple[str, str | None]:
        """What names the file: path and weight_name."""
        return self.lora.path, self.lora.weight_name

    def weights(self, expert: str) -> tuple[LoRAWeight, ...]:
        """Return it with its strongest moment, as entries of `loras`. expert: of its phase."""
        if isinstance(self.lora, StageLoRA):
            return self.lora.weights()
        scale = strongest(self.lora.scale)
        path, weight_name = self.file
        return (LoRAWeight(path=path, weight_name=weight_name, scale=scale, transformer=expert),)  # type: ignore[arg-type]


def moving_loras(phases: Sequence[RequestPhase], staged: Sequence[StageLoRA]) -> Iterator[MovingLoRA]:
    """Yield the LoRAs of phases, and those of stages whose strength changes between steps."""
    for index, lora in enumerate(staged):
        if lora.moves:
            yield MovingLoRA(f"loras_per_stage[{index}]", lora)
    for number, phase in enumerate(phases):
        for index, of_phase in enumerate(phase.loras):
            yield MovingLoRA(f"phases[{number}].loras[{index}]", of_phase, number)
