"""The object `local` of a request: what only this machine has. No provider is sent it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator
from pydantic_core import PydanticCustomError

from .image_size import LONGEST_SIDE
from .lora_weight import LoRAWeight, StageLoRA
from .phases import Phases
from .prompt_ranges import PromptRanges
from .prompt_weights import PromptSyntax
from .result_formats import SCENE_THRESHOLD, BitDepth, CodecName, ContainerName
from .step_caches import StepCacheName
from .step_values import numbers_in_text
from .strict_model import StrictModel
from .window_settings import FuseName, ScheduleName

__all__ = [
    "NAG_ALPHA",
    "NAG_TAU",
    "TEXT_FORMS",
    "LocalSettings",
    "SolverChoice",
    "StageNames",
    "stage_loras",
    "stages_named",
]

StageNames = Literal["off", "high", "low", "both"]
SolverChoice = Literal["auto", "unipc", "dpm++", "euler", "lightning", "dmd", "rcm"]

NAG_TAU, NAG_ALPHA = 2.5, 0.25  # NAGWanPipeline of ChenDarYen/Normalized-Attention-Guidance
_LARGEST_SCALE = 100
_MOST_FRAMES = 4096  # 1024 positions in time (rope_params of wan/modules/model.py), of four frames each
_MOST_FREQUENCIES = 22  # of time in a head of 128 numbers: 44 of them, in pairs

TEXT_FORMS = ("phases", "guidance", "prompt_ranges")  # lists that are also read from text
StepScales = Annotated[
    tuple[Annotated[float, Field(ge=0)], ...], Field(strict=False), BeforeValidator(numbers_in_text)
]


class LocalSettings(StrictModel):
    """Settings of this machine. A value equal to its default is as if it were left out.

    Append new fields at the end: nodes and flags are made from them in this order.
    """

    contract: ClassVar[str] = "local"

    nag_scale: float = Field(1.0, ge=1, le=_LARGEST_SCALE)
    nag_scale_2: float | None = Field(None, ge=1, le=_LARGEST_SCALE)
    nag_tau: float = Field(NAG_TAU, ge=0.01, le=_LARGEST_SCALE)
    nag_alpha: float = Field(NAG_ALPHA, ge=0, le=1)
    nag_negative_prompt: str | None = None
    cfg_zero_star: StageNames = "off"
    cfg_zero_steps: int = Field(0, ge=0, le=1000)
    width: int | None = Field(None, ge=1, le=LONGEST_SIDE)
    height: int | None = Field(None, ge=1, le=LONGEST_SIDE)
    solver: SolverChoice = "auto"
    boundary: float | None = Field(None, ge=0, le=1)
    high_steps: int | None = Field(None, ge=0, le=1000)
    # Not strict for the containers: JSON has lists, frozen data has tuples.
    sigmas: Annotated[tuple[float, ...], Field(strict=False)] | None = None
    negative_preset: Literal["none", "official"] = "none"
    loras_per_stage: Annotated[tuple[StageLoRA, ...], Field(strict=False)] = ()
    prompt_syntax: PromptSyntax = "plain"
    count: int = Field(1, ge=1, le=1000)
    context_frames: int | None = Field(None, ge=1, le=_MOST_FRAMES)
    context_overlap: int | None = Field(None, ge=0, le=_MOST_FRAMES)
    context_schedule: ScheduleName = "standard_uniform"
    context_fuse: FuseName = "pyramid"
    context_stride: int = Field(1, ge=1, le=16)
    context_closed_loop: bool = False
    context_retain_first: bool = False
    freenoise: bool = True
    riflex: int = Field(0, ge=0, le=_MOST_FREQUENCIES)
    riflex_frames: int | None = Field(None, ge=1, le=_MOST_FRAMES)
    phases: Phases = ()
    guidance: StepScales | None = None
    prompt_ranges: PromptRanges = ()
    prompt_overlap: int = Field(0, ge=0, le=_MOST_FRAMES)
    container: ContainerName = "mp4"
    codec: CodecName = "auto"
    bit_depth: BitDepth = 8
    scene_threshold: float = Field(SCENE_THRESHOLD, ge=0, le=1)
    step_cache: StepCacheName = "off"
    step_cache_threshold: float | None = Field(None, gt=0, le=_LARGEST_SCALE)

    @field_validator("sigmas")
    @classmethod
    def _fall_to_zero(cls, sigmas: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if sigmas is not None:
            falling = len(sigmas) > 1 and all(earlier > later for earlier, later in pairwise(sigmas))
            if not falling or sigmas[0] > 1 or sigmas[-1] != 0:
                raise PydanticCustomError("not_falling", "not falling from at most 1 to 0")
        return sigmas

    def asked(self) -> dict[str, Any]:
        """Return the values that differ from their defaults, as JSON."""
        return self.model_dump(mode="json", exclude_defaults=True)


def stage_loras(local: LocalSettings | None) -> list[LoRAWeight]:
    """Return the LoRAs of `loras_per_stage` whose strengths stay, as entries of `loras`."""
    staying = () if local is None else [lora for lora in local.loras_per_stage if not lora.moves]
    return [entry for lora in staying for entry in lora.weights()]


def stages_named(stages: str, experts: Iterable[str]) -> tuple[str, ...]:
    """Return the experts that "off", "high", "low" or "both" names."""
    return tuple(name for name in experts if stages in (name, "both"))
