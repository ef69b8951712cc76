"""Wan 2.1 at Novita, in Novita's own words for things."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from .base import StrictModel, WanRequest
from .lora import NovitaLoRA

__all__ = [
    "SIZE_PAIRS",
    "NovitaExtra",
    "NovitaTestMode",
    "NovitaWan21I2VRequest",
    "NovitaWan21T2VRequest",
    "NovitaWebhook",
]

SIZE_PAIRS = ((480, 832), (832, 480), (1280, 720), (720, 1280))  # (width, height)


class NovitaTestMode(StrictModel):
    """Answers without a run, to try the wiring."""

    contract: ClassVar[str] = "NovitaTestMode"

    enabled: bool = False
    return_task_status: Literal["TASK_STATUS_SUCCEED", "TASK_STATUS_FAILED"]


class NovitaWebhook(StrictModel):
    """Where Novita reports the end of a task."""

    contract: ClassVar[str] = "NovitaWebhook"

    url: str
    test_mode: NovitaTestMode | None = None


class NovitaExtra(StrictModel):
    """What is not about the video."""

    contract: ClassVar[str] = "NovitaExtra"

    webhook: NovitaWebhook | None = None


class _Wan21(WanRequest):
    """What both endpoints of Wan 2.1 check alike."""

    provider: ClassVar[str] = "novita"

    @field_validator("height", check_fields=False)
    @classmethod
    def _fits_the_width(cls, height: int, info: ValidationInfo) -> int:
        width = info.data.get("width")
        if width is not None and (width, height) not in SIZE_PAIRS:
            raise PydanticCustomError("size_pair", "not a size that Novita draws")
        return height

    @field_validator("prompt", check_fields=False)
    @classmethod
    def _says_something(cls, prompt: str) -> str:
        if not prompt.strip():
            raise PydanticCustomError("blank", "empty")
        return prompt


class NovitaWan21T2VRequest(_Wan21):
    """A prompt becomes a video of five seconds, with the one expert of Wan 2.1 14B."""

    kind: ClassVar[str] = "wan21-text-to-video"
    contract: ClassVar[str] = "NovitaWan21T2VRequest"
    task: ClassVar[str] = "wan21-text-to-video"
    endpoint: ClassVar[str] = "POST https://api.novita.ai/v3/async/wan-t2v"
    title: ClassVar[str] = "Wan 2.1 14B text to video at Novita"

    extra: NovitaExtra | None = None
    model_name: Literal["wan2.1-t2v"] = "wan2.1-t2v"
    width: Literal[480, 720, 832, 1280]
    height: Literal[832, 480, 720, 1280]
    loras: Annotated[tuple[NovitaLoRA, ...] | None, Field(strict=False)] = None
    seed: int
    prompt: str
    negative_prompt: str | None = None
    steps: int = 30
    guidance_scale: float = 5.0
    flow_shift: float = 5.0


class NovitaWan21I2VRequest(_Wan21):
    """An image becomes the start of a video of five seconds, in the shape of the image.

    No kind of its own: image-to-video is put into these words for Novita. width and height only say how many
    pixels there are to be.
    """

    kind: ClassVar[str] = "wan21-image-to-video"
    contract: ClassVar[str] = "NovitaWan21I2VRequest_current"
    task: ClassVar[str] = "wan21-image-to-video"
    endpoint: ClassVar[str] = "POST https://api.novita.ai/v3/async/wan-i2v"
    title: ClassVar[str] = "Wan 2.1 14B image to video at Novita"

    extra: NovitaExtra | None = None
    prompt: str
    image_url: str
    width: Literal[480, 720, 832, 1280] = 832
    height: Literal[832, 480, 720, 1280] = 480
    loras: Annotated[tuple[NovitaLoRA, ...] | None, Field(strict=False)] = None
    seed: int = -1
    negative_prompt: str | None = None
    steps: int = 30
    guidance_scale: float = 5.0
    flow_shift: float = 5.0
    enable_safety_checker: bool = True
    fast_mode: bool = False
