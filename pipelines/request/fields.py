"""The field groups that requests are put together from, with the provider's usual defaults.

None stands where the provider states no default. Meanings are in descriptions.py, ranges in limits.json.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from .base import WanRequest
from .lora import LoRAWeight

__all__ = [
    "SEED_MAX",
    "Checkers",
    "Interpolation",
    "Length",
    "LoRAs",
    "Picture",
    "Prompt",
    "Seed",
    "Speed",
    "Steps",
    "TwoStageGuidance",
    "VideoFile",
]

SEED_MAX = 2**64 - 1  # the largest that torch.Generator.manual_seed takes


class Prompt(WanRequest):
    prompt: str
    negative_prompt: str = ""

    @field_validator("prompt")
    @classmethod
    def _says_something(cls, prompt: str) -> str:
        if not prompt.strip():
            raise PydanticCustomError("blank", "empty")
        return prompt


class Length(WanRequest):
    num_frames: int = 81
    frames_per_second: int = 16


class Seed(WanRequest):
    seed: int | None = None

    @field_validator("seed")
    @classmethod
    def _fits_the_generator(cls, seed: int | None) -> int | None:
        if seed is not None and not 0 <= seed <= SEED_MAX:
            raise PydanticCustomError("seed_range", "outside what the noise generator takes")
        return seed


class Picture(WanRequest):
    resolution: Literal["480p", "580p", "720p"] = "720p"
    aspect_ratio: Literal["16:9", "9:16", "1:1"] = "16:9"


class Steps(WanRequest):
    num_inference_steps: int = 27


class Checkers(WanRequest):
    enable_safety_checker: bool | None = None
    enable_output_safety_checker: bool | None = None
    enable_prompt_expansion: bool | None = None


class Speed(WanRequest):
    acceleration: Literal["none", "regular"] = "regular"


class TwoStageGuidance(WanRequest):
    guidance_scale: float = 3.5
    guidance_scale_2: float = 4.0
    shift: float = 5.0


class Interpolation(WanRequest):
    interpolator_model: Literal["none", "film", "rife"] = "film"
    num_interpolated_frames: int = 1
    adjust_fps_for_interpolation: bool = True


class VideoFile(WanRequest):
    video_quality: Literal["low", "medium", "high", "maximum"] = "high"
    video_write_mode: Literal["fast", "balanced", "small"] = "balanced"


class LoRAs(WanRequest):
    # The container alone is not strict: JSON has lists where frozen data has tuples.
    loras: Annotated[tuple[LoRAWeight, ...] | None, Field(strict=False)] = None
    reverse_video: bool | None = None
