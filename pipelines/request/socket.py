"""What travels between nodes: a request and the media that belong to its fields."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from .base import WanRequest

__all__ = ["RequestWithMedia"]


class RequestWithMedia(NamedTuple):
    """media maps a field ("image_url", "audio_url", ...) to the image, video or audio given for it."""

    request: WanRequest
    media: Mapping[str, object] = MappingProxyType({})
