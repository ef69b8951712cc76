"""Chooses the size of the result: from a tier and an aspect ratio, from an input, or as asked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from .image_size import pixels
from .local_settings import LocalSettings
from .model_facts import ModelFacts

__all__ = ["Size", "choose_size", "nearest_size"]

_SHAPES = {"16:9": 16 / 9, "9:16": 9 / 16, "1:1": 1.0}
_SAME_SHAPE = 0.01  # relative difference that cropping to even numbers may cause


class Size(NamedTuple):
    """A size in pixels. assumed: the input's aspect ratio is unknown, so 16:9 is assumed."""

    width: int
    height: int
    assumed: bool = False


def choose_size(
    values: Mapping[str, Any],
    model: ModelFacts,
    media_size: tuple[int, int] | None,
    local: LocalSettings | None = None,
) -> Size:
    """Return the size of the result of a request with these field values.

    media_size: (width, height) of the input whose aspect ratio is kept; None if it is unknown.
    local:      the settings of this machine; a size in them wins.
    """
    if local is not None and local.width is not None and local.height is not None:
        return Size(local.width, local.height)
    if values.get("image_size") is not None:
        size = pixels(values["image_size"])
        return Size(*(_own_size(model, size) if model.own_sizes else size))
    if "width" in values:
        size = values["width"], values["height"]
        return Size(*(_own_size(model, size) if model.own_sizes else size))
    table, aspect = model.sizes[values["resolution"]], values.get("aspect_ratio", "auto")
    if aspect != "auto":
        return Size(*(table[aspect] if aspect in table else _in_shape(model, table, _ratio(aspect))))
    if media_size is None:
        return Size(*table["16:9"], assumed=True)
    return Size(*(_own_size(model, media_size) if model.own_sizes else _in_shape(model, table, media_size)))


def nearest_size(model: ModelFacts, width: int, height: int) -> tuple[int, int]:
    """Return the nearest size in multiples that the model can generate."""
    step = model.size_multiple
    near_width, near_height = (max(round(side / step), 1) * step for side in (width, height))
    return near_width, near_height


def _ratio(aspect: str) -> tuple[float, float]:
    """Return the two numbers of an aspect ratio such as 4:3 or 2.39:1."""
    width, height = aspect.split(":")
    return float(width), float(height)


def _in_shape(
    model: ModelFacts, table: Mapping[str, tuple[int, int]], shape: tuple[float, float]
) -> tuple[int, int]:
    """Return the size with the area of the tier and this aspect ratio, rounded to the model's multiple.

    An aspect ratio of the table gets the size of the table.
    """
    ratio, step = shape[0] / shape[1], model.size_multiple
    for name, named in _SHAPES.items():
        if abs(ratio / named - 1) < _SAME_SHAPE:
            return table[name]
    area = math.prod(table["16:9"])
    wide, high = (
        max(round(side / step), 1) * step for side in (math.sqrt(area * ratio), math.sqrt(area / ratio))
    )
    return wide, high


def _own_size(model: ModelFacts, shape: tuple[int, int]) -> tuple[int, int]:
    """Return the model's own size with the nearest aspect ratio."""
    ratio = math.log(shape[0] / shape[1])
    return min(
        next(iter(model.sizes.values())).values(),
        key=lambda size: abs(math.log(size[0] / size[1]) - ratio),
    )
