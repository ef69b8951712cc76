"""Videos and images of Wan 2.2 5B, which has one expert.

pydantic orders fields from the last base class to the first, so bases are listed in reverse order.
"""

from __future__ import annotations

from typing import ClassVar

from .fields import (
    Checkers,
    Guidance,
    ImageFormat,
    InputImage,
    Length,
    NegativePrompt,
    Picture,
    PictureSize,
    Prompt,
    Seed,
    SmallDenoising,
    SmallInterpolation,
    SmallPicture,
    SmallPictureOfInput,
    VideoFile,
)

__all__ = [
    "WanDistillT2VRequest",
    "WanSmallFastVideoT2VRequest",
    "WanSmallI2VRequest",
    "WanSmallT2IRequest",
    "WanSmallT2VRequest",
]


class WanSmallT2VRequest(
    VideoFile, SmallInterpolation, SmallDenoising, SmallPicture, Seed, Length, NegativePrompt, Prompt
):
    """A prompt becomes a video, with the one expert of the 5B model."""

    kind: ClassVar[str] = "small-text-to-video"
    contract: ClassVar[str] = "WanSmallT2VRequest"
    task: ClassVar[str] = "small-text-to-video"
    provider: ClassVar[str] = "fal"
    endpoint: ClassVar[str] = "fal-ai/wan/v2.2-5b/text-to-video"
    title: ClassVar[str] = "Wan 2.2 5B text to video"

    frames_per_second: int = 24
    num_inference_steps: int = 40


class WanSmallI2VRequest(
    VideoFile,
    SmallInterpolation,
    SmallDenoising,
    SmallPictureOfInput,
    Seed,
    NegativePrompt,
    Length,
    Prompt,
    InputImage,
):
    """An image becomes the first frame of a video."""

    kind: ClassVar[str] = "small-image-to-video"
    contract: ClassVar[str] = "WanSmallI2VRequest"
    task: ClassVar[str] = "small-image-to-video"
    provider: ClassVar[str] = "fal"
    endpoint: ClassVar[str] = "fal-ai/wan/v2.2-5b/image-to-video"
    title: ClassVar[str] = "Wan 2.2 5B image to video"

    frames_per_second: int = 24
    num_inference_steps: int = 40


class WanSmallT2IRequest(ImageFormat, PictureSize, SmallDenoising, Seed, NegativePrompt, Prompt):
    """A prompt becomes one image."""

    kind: ClassVar[str] = "small-text-to-image"
    contract: ClassVar[str] = "WanSmallT2IRequest"
    task: ClassVar[str] = "small-text-to-image"
    provider: ClassVar[str] = "fal"
    endpoint: ClassVar[str] = "fal-ai/wan/v2.2-5b/text-to-image"
    title: ClassVar[str] = "Wan 2.2 5B text to image"

    num_inference_steps: int = 40
    shift: float = 2.0


class WanDistillT2VRequest(VideoFile, SmallInterpolation, SmallDenoising, SmallPicture, Seed, Length, Prompt):
    """As small-text-to-video, with weights that need no guidance."""

    kind: ClassVar[str] = "small-distill"
    contract: ClassVar[str] = "WanDistillT2VRequest"
    task: ClassVar[str] = "small-distill"
    provider: ClassVar[str] = "fal"
    endpoint: ClassVar[str] = "fal-ai/wan/v2.2-5b/text-to-video/distill"
    title: ClassVar[str] = "Wan 2.2 5B distilled text to video"

    frames_per_second: int = 24
    num_inference_steps: int = 40
    guidance_scale: float = 1.0


class WanSmallFastVideoT2VRequest(
    VideoFile, SmallInterpolation, Guidance, Checkers, Picture, Seed, Length, NegativePrompt, Prompt
):
    """A prompt becomes a video in three steps, with the weights of FastVideo."""

    kind: ClassVar[str] = "small-fast-video"
    contract: ClassVar[str] = "WanSmallFastVideoT2VRequest"
    task: ClassVar[str] = "small-fast-video"
    provider: ClassVar[str] = "fal"
    endpoint: ClassVar[str] = "fal-ai/wan/v2.2-5b/text-to-video/fast-wan"
    title: ClassVar[str] = "Wan 2.2 5B FastVideo text to video"

    frames_per_second: int = 24
