"""Defines the size of an image: a preset name, or width and height."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Discriminator, Tag, field_validator
from pydantic_core import PydanticCustomError

from .strict_model import StrictModel

__all__ = ["LONGEST_SIDE", "PRESETS", "ImageSize", "SizeOrPreset", "pixels"]

# {preset: (width, height)}. Not published by fal; several public clients use these (2026-11).
PRESETS: Mapping[str, tuple[int, int]] = {
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}


LONGEST_SIDE = 65535  # the longest side of a JPEG, in pixels


class ImageSize(StrictModel):
    """Width and height in pixels."""

    contract: ClassVar[str] = "ImageSize"

    width: int = 512
    height: int = 512

    @field_validator("width", "height")
    @classmethod
    def _is_a_length(cls, value: int) -> int:
        if not 1 <= value <= LONGEST_SIDE:
            raise PydanticCustomError("side_range", "no side of an image")
        return value


def _form(value: Any) -> str:
    return "size" if isinstance(value, ImageSize | Mapping) else "preset"


_Preset = Literal["square_hd", "square", "portrait_4_3", "portrait_16_9", "landscape_4_3", "landscape_16_9"]
SizeOrPreset: TypeAlias = Annotated[
    Annotated[_Preset, Tag("preset")] | Annotated[ImageSize, Tag("size")], Discriminator(_form)
]


def pixels(size: object) -> tuple[int, int]:
    """Return (width, height) of a preset name, an ImageSize, or its JSON form."""
    if isinstance(size, ImageSize):
        return size.width, size.height
    if isinstance(size, Mapping):
        return size["width"], size["height"]
    return PRESETS[str(size)]
