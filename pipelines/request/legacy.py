"""The first form of Wan 2.2 at fal, which newer listings no longer name.

pydantic orders fields from the last base class to the first, so bases are listed in reverse order.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from .fields import (
    Guidance,
    Length,
    NegativePrompt,
    Picture,
    Prompt,
    PromptExpansion,
    SafetyChecker,
    SecondGuidance,
    Seed,
    Shift,
    Steps,
)
from .lora import LegacyLoRAWeight

__all__ = [
    "Wan22LoRAT2VRequest",
    "Wan22T2VRequest",
]

# The default that the page states, as it stands there.
_NEGATIVE = (
    "bright colors, overexposed, static, blurred details, subtitles, style, artwork, painting, "
    "picture, still, overall gray, worst quality, low quality, JPEG compression residue, ugly, "
    "incomplete, extra fingers, poorly drawn hands, poorly drawn faces, deformed, disfigured, "
    "malformed limbs, fused fingers, still picture, cluttered background, three legs, many people in "
    "the background, walking backwards"
)


class Wan22T2VRequest(
    Shift,
    SecondGuidance,
    Guidance,
    PromptExpansion,
    SafetyChecker,
    Steps,
    Picture,
    Seed,
    Length,
    NegativePrompt,
    Prompt,
):
    """A prompt becomes a video, through the first form of the service."""

    kind: ClassVar[str] = "legacy-text-to-video"
    contract: ClassVar[str] = "Wan22T2VRequest"
    task: ClassVar[str] = "legacy-text-to-video"
    provider: ClassVar[str] = "fal"
    endpoint: ClassVar[str] = "fal-ai/wan-22"
    title: ClassVar[str] = "Wan 2.2 A14B text to video (first form)"

    negative_prompt: str = _NEGATIVE
    num_inference_steps: int = 30
    guidance_scale: float = 5.0


class Wan22LoRAT2VRequest(Wan22T2VRequest):
    """As legacy-text-to-video, with LoRAs on both experts, and reversible."""

    kind: ClassVar[str] = "legacy-text-to-video-lora"
    contract: ClassVar[str] = "Wan22LoRAT2VRequest"
    endpoint: ClassVar[str] = "fal-ai/wan-22/lora"
    title: ClassVar[str] = "Wan 2.2 A14B text to video with LoRA (first form)"

    loras: Annotated[tuple[LegacyLoRAWeight, ...] | None, Field(strict=False)] = None
    reverse_video: bool | None = None
