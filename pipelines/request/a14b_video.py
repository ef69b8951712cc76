"""Videos of Wan 2.2 A14B, and of the 14B speech model.

pydantic orders fields from the last base class to the first, so bases are listed in reverse order.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from .fields import (
    Checkers,
    Denoising,
    EndImage,
    Guidance,
    InputAudio,
    InputImage,
    InputVideo,
    Interpolation,
    Length,
    LoRAs,
    NegativePrompt,
    OutputChecker,
    Picture,
    PictureOfInput,
    Prompt,
    Resampling,
    SafetyChecker,
    Seed,
    Shift,
    Speed,
    Steps,
    Strength,
    Tier,
    VideoFile,
)
from .lora import LoRAWeight

__all__ = [
    "WanI2VRequest",
    "WanI2VRequest_llms_121",
    "WanLoRAI2VRequest",
    "WanLoRAT2VRequest",
    "WanLoRAT2VRequest_llms_161",
    "WanS2VRequest",
    "WanT2VRequest",
    "WanTurboI2VRequest",
    "WanTurboT2VRequest",
    "WanV2VRequest",
]


class WanT2VRequest(VideoFile, Interpolation, Denoising, Picture, Seed, Length, NegativePrompt, Prompt):
    """A prompt becomes a video, with the two experts of Wan 2.2 A14B."""

    kind: ClassVar[str] = "text-to-video"
    contract: ClassVar[str] = "WanT2VRequest"
    task: ClassVar[str] = "text-to-video"
    provider: ClassVar[str] = "fal"
    endpoint: ClassVar[str] = "fal-ai/wan/v2.2-a14b/text-to-video"
    title: ClassVar[str] = "Wan 2.2 A14B text to video"


class WanLoRAT2VRequest(LoRAs, WanT2VRequest):
    """As text-to-video, with LoRAs on either expert, and reversible."""

    kind: ClassVar[str] = "text-to-video-lora"
    contract: ClassVar[str] = "WanLoRAT2VRequest"
    endpoint: ClassVar[str] = "fal-ai/wan/v2.2-a14b/text-to-video/lora"
    title: ClassVar[str] = "Wan 2.2 A14B text to video with LoRA"


class WanLoRAT2VRequest_llms_161(WanLoRAT2VRequest):  # noqa: N801
    """As text-to-video-lora, after the page that allows 161 frames and states every default."""

    kind: ClassVar[str] = "text-to-video-lora-161"
    contract: ClassVar[str] = "WanLoRAT2VRequest_llms_161"
    title: ClassVar[str] = "Wan 2.2 A14B text to video with LoRA (161 frames)"

    enable_safety_checker: bool = False
    enable_output_safety_checker: bool = False
    enable_prompt_expansion: bool = False
    loras: Annotated[tuple[LoRAWeight, ...], Field(strict=False)] = ()
    reverse_video: bool = False


class WanI2VRequest(
    EndImage,
    VideoFile,
    Interpolation,
    Denoising,
    PictureOfInput,
    Seed,
    NegativePrompt,
    Length,
    Prompt,
    InputImage,
):
    """An image becomes the first frame of a video, and another one the last if it is given."""

    kind: ClassVar[str] = "image-to-video"
    contract: ClassVar[str] = "WanI2VRequest"
    task: ClassVar[str] = "image-to-video"
    provider: ClassVar[str] = "fal"
    endpoint: ClassVar[str] = "fal-ai/wan/v2.2-a14b/image-to-video"
    title: ClassVar[str] = "Wan 2.2 A14B image to video"

    guidance_scale_2: float = 3.5


class WanI2VRequest_llms_121(  # noqa: N801
    VideoFile, Interpolation, Denoising, PictureOfInput, Seed, NegativePrompt, Length, Prompt, InputImage
):
    """As image-to-video, after the page that states two more defaults and has no end image."""

    kind: ClassVar[str] = "image-to-video-121"
    contract: ClassVar[str] = "WanI2VRequest_llms_121"
    task: ClassVar[str] = "image-to-video"
    provider: ClassVar[str] = "fal"
    endpoint: ClassVar[str] = "fal-ai/wan/v2.2-a14b/image-to-video"
    title: ClassVar[str] = "Wan 2.2 A14B image to video (121 frames)"

    guidance_scale_2: float = 3.5
    enable_safety_checker: bool = False
    enable_prompt_expansion: bool = False


class WanLoRAI2VRequest(
    EndImage,
    LoRAs,
    VideoFile,
    Interpolation,
    Denoising,
    PictureOfInput,
    Seed,
    NegativePrompt,
    Length,
    Prompt,
    InputImage,
):
    """As image-to-video, with LoRAs on either expert, and reversible."""

    kind: ClassVar[str] = "image-to-video-lora"
    contract: ClassVar[str] = "WanLoRAI2VRequest"
    task: ClassVar[str] = "image-to-video"
    provider: ClassVar[str] = "fal"
    endpoint: ClassVar[str] = "fal-ai/wan/v2.2-a14b/image-to-video/lora"
    title: ClassVar[str] = "Wan 2.2 A14B image to video with LoRA"


class WanV2VRequest(
    Resampling,
    VideoFile,
    Interpolation,
    Denoising,
    PictureOfInput,
    Seed,
    NegativePrompt,
    Length,
    Strength,
    Prompt,
    InputVideo,
):
    """A video is noised by the strength and drawn anew after the prompt."""

    kind: ClassVar[str] = "video-to-video"
    contract: ClassVar[str] = "WanV2VRequest"
    task: ClassVar[str] = "video-to-video"
    provider: ClassVar[str] = "fal"
    endpoint: ClassVar[str] = "fal-ai/wan/v2.2-a14b/video-to-video"
    title: ClassVar[str] = "Wan 2.2 A14B video to video"


class WanTurboT2VRequest(VideoFile, Speed, Checkers, Picture, Seed, Prompt):
    """A prompt becomes a video in four steps; the provider decides the rest."""

    kind: ClassVar[str] = "text-to-video-turbo"
    contract: ClassVar[str] = "WanTurboT2VRequest"
    task: ClassVar[str] = "turbo-text-to-video"
    provider: ClassVar[str] = "fal"
    endpoint: ClassVar[str] = "fal-ai/wan/v2.2-a14b/text-to-video/turbo"
    title: ClassVar[str] = "Wan 2.2 A14B turbo text to video"


class WanTurboI2VRequest(EndImage, VideoFile, Speed, Checkers, PictureOfInput, Seed, Prompt, InputImage):
    """An image becomes a video in four steps; the provider decides the rest."""

    kind: ClassVar[str] = "image-to-video-turbo"
    contract: ClassVar[str] = "WanTurboI2VRequest"
    task: ClassVar[str] = "turbo-image-to-video"
    provider: ClassVar[str] = "fal"
    endpoint: ClassVar[str] = "fal-ai/wan/v2.2-a14b/image-to-video/turbo"
    title: ClassVar[str] = "Wan 2.2 A14B turbo image to video"


class WanS2VRequest(
    InputAudio,
    InputImage,
    VideoFile,
    Shift,
    Guidance,
    OutputChecker,
    SafetyChecker,
    Steps,
    Tier,
    Seed,
    Length,
    NegativePrompt,
    Prompt,
):
    """The person of an image speaks or sings what is heard."""

    kind: ClassVar[str] = "speech-to-video"
    contract: ClassVar[str] = "WanS2VRequest"
    task: ClassVar[str] = "speech-to-video"
    provider: ClassVar[str] = "fal"
    endpoint: ClassVar[str] = "fal-ai/wan/v2.2-14b/speech-to-video"
    title: ClassVar[str] = "Wan 2.2 14B speech to video"

    num_frames: int = 80
    resolution: Literal["480p", "580p", "720p"] = "480p"
