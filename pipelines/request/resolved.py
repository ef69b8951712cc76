"""A request with every value decided, for one runner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .base import WanRequest
from .media_facts import NOTHING_KNOWN, MediaFacts
from .sizes import Size
from .strict_model import as_json

__all__ = ["Resolved"]


@dataclass(frozen=True)
class Resolved:
    """The result of a check. A plan reads nothing else and decides none of these values again.

    request: the request, as the runner accepts it.
    values:  {name: value} as used, with values that the kind has no field for. If the seed is None, the run
             chooses a random one.
    model:   name of the model family; None for a provider, or without a model.
    size:    of the result; None without a model family.
    """

    request: WanRequest
    values: Mapping[str, Any]
    model: str | None = None
    size: Size | None = None
    media: MediaFacts = NOTHING_KNOWN

    def as_dict(self) -> dict[str, Any]:
        """Return values, size and media as JSON values."""
        size = None if self.size is None else self.size._asdict()
        return {"values": as_json(self.values), "size": size, "media": self.media.as_dict()}
