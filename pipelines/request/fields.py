"""The field groups that requests are put together from, with the provider's usual defaults.

None stands where the provider states no default. Meanings are in descriptions.py, ranges in limits.json.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from .base import WanRequest
from .image_size import SizeOrPreset
from .lora import LoRAWeight
from .seeds import SEED_MAX

__all__ = [
    "Checkers",
    "Denoising",
    "EndImage",
    "Guidance",
    "ImageFormat",
    "InputAudio",
    "InputImage",
    "InputVideo",
    "Interpolation",
    "Length",
    "LoRAs",
    "NegativePrompt",
    "OptionalPictureSize",
    "OutputChecker",
    "Picture",
    "PictureOfInput",
    "PictureSize",
    "Prompt",
    "PromptExpansion",
    "Resampling",
    "SafetyChecker",
    "SecondGuidance",
    "Seed",
    "Shift",
    "SmallDenoising",
    "SmallInterpolation",
    "SmallPicture",
    "SmallPictureOfInput",
    "Speed",
    "Steps",
    "Strength",
    "Tier",
    "VideoFile",
]


def _not_blank(text: str | None) -> str | None:
    if text is not None and not text.strip():
        raise PydanticCustomError("blank", "empty")
    return text


class Prompt(WanRequest):
    prompt: str

    _says_something = field_validator("prompt")(_not_blank)


class NegativePrompt(WanRequest):
    negative_prompt: str = ""


class InputImage(WanRequest):
    image_url: str

    _names_an_image = field_validator("image_url")(_not_blank)


class EndImage(WanRequest):
    end_image_url: str | None = None

    _names_an_end_image = field_validator("end_image_url")(_not_blank)


class InputVideo(WanRequest):
    video_url: str

    _names_a_video = field_validator("video_url")(_not_blank)


class InputAudio(WanRequest):
    audio_url: str

    _names_audio = field_validator("audio_url")(_not_blank)


class Strength(WanRequest):
    strength: float = 0.9


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


class Tier(WanRequest):
    resolution: Literal["480p", "580p", "720p"] = "720p"


class Picture(Tier):
    aspect_ratio: Literal["16:9", "9:16", "1:1"] = "16:9"


class PictureOfInput(Tier):
    aspect_ratio: Literal["auto", "16:9", "9:16", "1:1"] = "auto"


class SmallPicture(WanRequest):
    resolution: Literal["580p", "720p"] = "720p"
    aspect_ratio: Literal["16:9", "9:16", "1:1"] = "16:9"


class SmallPictureOfInput(WanRequest):
    resolution: Literal["580p", "720p"] = "720p"
    aspect_ratio: Literal["auto", "16:9", "9:16", "1:1"] = "auto"


class PictureSize(WanRequest):
    image_size: SizeOrPreset = "square_hd"


class OptionalPictureSize(WanRequest):
    image_size: SizeOrPreset | None = None


class ImageFormat(WanRequest):
    image_format: Literal["png", "jpeg"] = "jpeg"


class Steps(WanRequest):
    num_inference_steps: int = 27

    @field_validator("num_inference_steps")
    @classmethod
    def _goes_somewhere(cls, steps: int) -> int:
        # Not every provider states a range, but fewer than one step is nowhere a request.
        if steps < 1:
            raise PydanticCustomError("not_positive", "below 1")
        return steps


class SafetyChecker(WanRequest):
    enable_safety_checker: bool | None = None


class OutputChecker(WanRequest):
    enable_output_safety_checker: bool | None = None


class PromptExpansion(WanRequest):
    enable_prompt_expansion: bool | None = None


class Checkers(PromptExpansion, OutputChecker, SafetyChecker):
    """What may happen before and after drawing."""


class Speed(WanRequest):
    acceleration: Literal["none", "regular"] = "regular"


class Guidance(WanRequest):
    guidance_scale: float = 3.5


class SecondGuidance(WanRequest):
    guidance_scale_2: float = 4.0


class Shift(WanRequest):
    shift: float = 5.0


class Denoising(Shift, SecondGuidance, Guidance, Speed, Checkers, Steps):
    """How the two experts draw."""


class SmallDenoising(Shift, Guidance, Checkers, Steps):
    """How the one expert of the 5B model draws."""


class Interpolation(WanRequest):
    interpolator_model: Literal["none", "film", "rife"] = "film"
    num_interpolated_frames: int = 1
    adjust_fps_for_interpolation: bool = True


class SmallInterpolation(WanRequest):
    interpolator_model: Literal["none", "film", "rife"] = "film"
    num_interpolated_frames: int | None = None
    adjust_fps_for_interpolation: bool = True


class VideoFile(WanRequest):
    video_quality: Literal["low", "medium", "high", "maximum"] = "high"
    video_write_mode: Literal["fast", "balanced", "small"] = "balanced"


class Resampling(WanRequest):
    resample_fps: bool | None = None


class LoRAs(WanRequest):
    # The container alone is not strict: JSON has lists where frozen data has tuples.
    loras: Annotated[tuple[LoRAWeight, ...] | None, Field(strict=False)] = None
    reverse_video: bool | None = None
