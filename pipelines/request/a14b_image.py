"""Images of Wan 2.2 A14B.

pydantic orders fields from the last base class to the first, so bases are listed in reverse order.
"""

from __future__ import annotations

from typing import ClassVar

from .fields import (
    Denoising,
    ImageFormat,
    InputImage,
    LoRAs,
    NegativePrompt,
    OptionalPictureSize,
    PictureOfInput,
    PictureSize,
    Prompt,
    Seed,
    Strength,
)

__all__ = [
    "WanI2IRequest",
    "WanLoRAT2IRequest",
    "WanT2IRequest",
]


class WanT2IRequest(PictureSize, Denoising, Seed, NegativePrompt, Prompt):
    """A prompt becomes one image."""

    kind: ClassVar[str] = "text-to-image"
    contract: ClassVar[str] = "WanT2IRequest"
    task: ClassVar[str] = "text-to-image"
    provider: ClassVar[str] = "fal"
    endpoint: ClassVar[str] = "fal-ai/wan/v2.2-a14b/text-to-image"
    title: ClassVar[str] = "Wan 2.2 A14B text to image"

    shift: float = 2.0


class WanLoRAT2IRequest(ImageFormat, PictureSize, LoRAs, Denoising, Seed, NegativePrompt, Prompt):
    """As text-to-image, with LoRAs on either expert and a choice of the file format."""

    kind: ClassVar[str] = "text-to-image-lora"
    contract: ClassVar[str] = "WanLoRAT2IRequest"
    task: ClassVar[str] = "text-to-image"
    provider: ClassVar[str] = "fal"
    endpoint: ClassVar[str] = "fal-ai/wan/v2.2-a14b/text-to-image/lora"
    title: ClassVar[str] = "Wan 2.2 A14B text to image with LoRA"

    shift: float = 2.0


class WanI2IRequest(
    ImageFormat,
    OptionalPictureSize,
    Denoising,
    PictureOfInput,
    Seed,
    NegativePrompt,
    Strength,
    Prompt,
    InputImage,
):
    """An image is noised by the strength and drawn anew after the prompt."""

    kind: ClassVar[str] = "image-to-image"
    contract: ClassVar[str] = "WanI2IRequest"
    task: ClassVar[str] = "image-to-image"
    provider: ClassVar[str] = "fal"
    endpoint: ClassVar[str] = "fal-ai/wan/v2.2-a14b/image-to-image"
    title: ClassVar[str] = "Wan 2.2 A14B image to image"

    strength: float = 0.5
    shift: float = 2.0
