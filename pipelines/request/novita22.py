"""Wan 2.2 at Novita, in Novita's own words for things. Steps, guidance and shift are Novita's to choose."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from .base import WanRequest
from .lora import NovitaLoRA

__all__ = ["NovitaWan22I2VRequest", "NovitaWan22T2VRequest", "Wan22Size"]

Wan22Size = Literal[
    "832*480",
    "480*832",
    "624*624",
    "1280*720",
    "720*1280",
    "1920*1080",
    "1080*1920",
    "1440*1440",
    "1632*1248",
    "1248*1632",
]
_INPUT = ("prompt", "negative_prompt", "img_url")  # the rest are parameters


class _Wan22(WanRequest):
    """No kinds of their own: text-to-video and image-to-video are put into these words for Novita."""

    provider: ClassVar[str] = "novita"

    def payload(self) -> dict[str, Any]:
        """In the two groups that these endpoints want."""
        said = super().payload()
        groups: dict[str, Any] = {"input": {}, "parameters": {}}
        for name, value in said.items():
            groups["input" if name in _INPUT else "parameters"][name] = value
        return groups


class NovitaWan22T2VRequest(_Wan22):
    """A prompt becomes a video of five seconds, or of eight."""

    kind: ClassVar[str] = "novita-wan22-text-to-video"
    contract: ClassVar[str] = "NovitaWan22T2VRequest"
    task: ClassVar[str] = "novita-wan22-text-to-video"
    endpoint: ClassVar[str] = "POST https://api.novita.ai/v3/async/wan-2.2-t2v"
    title: ClassVar[str] = "Wan 2.2 text to video at Novita"

    prompt: str
    negative_prompt: str | None = None
    size: Wan22Size | None = None
    duration: Literal[5, 8] = 5
    prompt_extend: bool = True
    seed: int | None = None
    loras: Annotated[tuple[NovitaLoRA, ...] | None, Field(strict=False)] = None


class NovitaWan22I2VRequest(_Wan22):
    """An image becomes the start of a video of five seconds, or of eight, in the shape of the image."""

    kind: ClassVar[str] = "novita-wan22-image-to-video"
    contract: ClassVar[str] = "NovitaWan22I2VRequest"
    task: ClassVar[str] = "novita-wan22-image-to-video"
    endpoint: ClassVar[str] = "POST https://api.novita.ai/v3/async/wan-2.2-i2v"
    title: ClassVar[str] = "Wan 2.2 image to video at Novita"

    prompt: str | None = None
    negative_prompt: str | None = None
    img_url: str
    resolution: Literal["480P", "720P", "1080P"] | None = None
    duration: Literal[5, 8] = 5
    prompt_extend: bool = True
    seed: int | None = None
    loras: Annotated[tuple[NovitaLoRA, ...] | None, Field(strict=False)] = None
