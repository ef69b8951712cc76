"""The kinds of request, each mirroring one contract of the provider, and what can be asked about them.

pydantic orders fields from the last base class to the first, so bases are listed in reverse order.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from ..errors import RequestError
from .base import WanRequest
from .fields import (
    Checkers,
    Interpolation,
    Length,
    LoRAs,
    Picture,
    Prompt,
    Seed,
    Speed,
    Steps,
    TwoStageGuidance,
    VideoFile,
)
from .lora import LoRAWeight
from .rows import FieldRow, closest, rows

__all__ = [
    "KINDS",
    "WanLoRAT2VRequest",
    "WanLoRAT2VRequest_llms_161",
    "WanT2VRequest",
    "class_of",
    "describe_kinds",
    "field_table",
    "json_schema",
    "kind_of",
]


class WanT2VRequest(
    VideoFile, Interpolation, TwoStageGuidance, Speed, Checkers, Steps, Picture, Seed, Length, Prompt
):
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


KINDS: dict[str, type[WanRequest]] = {
    cls.kind: cls for cls in (WanT2VRequest, WanLoRAT2VRequest, WanLoRAT2VRequest_llms_161)
}


def class_of(kind: str) -> type[WanRequest]:
    """The request class of a kind. RequestError on `kind` when there is no such kind."""
    if kind in KINDS:
        return KINDS[kind]
    near = closest(kind, KINDS)
    fix = f"did you mean {near}?" if near else "known kinds: " + ", ".join(KINDS)
    raise RequestError.of("kind", f"no kind is called {kind[:60]!r}", fix)


def kind_of(request: WanRequest) -> str:
    return request.kind


def describe_kinds() -> list[dict[str, str]]:
    """One entry per kind, for `wan-duet kinds`."""
    keys = ("kind", "contract", "task", "provider", "endpoint", "title")
    return [{key: getattr(cls, key) for key in keys} for cls in KINDS.values()]


def json_schema(kind: str) -> dict[str, Any]:
    """The JSON Schema of a kind, with the newest ranges; `x-limits` lists all with date and source."""
    return class_of(kind).model_json_schema()


def field_table(kind: str) -> list[FieldRow]:
    """The fields of a kind, in order."""
    return rows(class_of(kind))
