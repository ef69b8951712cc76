"""Defines the request for one video of several shots: what each shows, and how it joins the one before."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from .contract_class import contract_class
from .contracts import KIND_ENTRIES
from .forms import FalRequest
from .lora_weight import LoRAWeight
from .strict_model import StrictModel

__all__ = ["SHOTS", "SHOT_ONLY", "Shot", "ShotsRequest"]

SHOTS = "shots"  # the kind, and the task

SHOT_ONLY = ("prompt", "image_url", "end_image_url")  # each shot says these for itself
_NOT_OF_SHOTS = (*SHOT_ONLY, "reverse_video")
_LONGEST_S = 600


class Shot(StrictModel):
    """One shot. What it leaves out is as the whole request says.

    join: "cut", "continue", "overlap N" or "dissolve N"; see `joins.read_join`.
    """

    contract: ClassVar[str] = "Shot"

    prompt: str
    join: str = "cut"
    seconds: float | None = Field(None, gt=0, le=_LONGEST_S)
    num_frames: int | None = Field(None, ge=1)
    negative_prompt: str | None = None
    image_url: str | None = None
    end_image_url: str | None = None
    loras: Annotated[tuple[LoRAWeight, ...], Field(strict=False)] | None = None
    seed: int | None = None
    guidance_scale: float | None = Field(None, ge=0)
    guidance_scale_2: float | None = Field(None, ge=0)


class _Film(FalRequest):
    """What is stated for the whole video."""

    contract: ClassVar[str] = SHOTS
    kind: ClassVar[str] = SHOTS
    task: ClassVar[str] = SHOTS
    provider: ClassVar[str] = "local"
    endpoint: ClassVar[str] = "any"
    title: ClassVar[str] = "One video of several shots"

    # Not strict for the container: JSON has lists, frozen data has tuples.
    shots: Annotated[tuple[Shot, ...], Field(strict=False)] = ()
    storyboard: str | None = None
    match_colours: Literal["off", "on"] = "off"
    overlap_latents: Literal["off", "on"] = "off"


def _shared_fields() -> Mapping[str, Any]:
    """Return the fields that all shots have together: those of text and of image to video, all optional."""
    entries = {entry["kind"]: entry["fields"] for entry in KIND_ENTRIES}
    both = {**entries["text-to-video-lora"], **entries["image-to-video-lora"]}
    return MappingProxyType(
        {
            name: {key: value for key, value in field.items() if key not in ("default", "required")}
            for name, field in both.items()
            if name not in _NOT_OF_SHOTS
        }
    )


ShotsRequest = contract_class(
    {"contract": SHOTS, "description": "One video of several shots.", "fields": _shared_fields()}, _Film
)
"""The request of the kind `shots`. Its shots are in `shots` or, as text, in `storyboard`."""
