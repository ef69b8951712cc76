"""A request with every value decided, for one runner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_jsonable_python

from .base import WanRequest
from .media_facts import NOTHING_KNOWN, MediaFacts
from .sizes import Size

__all__ = ["Resolved"]


@dataclass(frozen=True)
class Resolved:
    """What a check decided. A plan reads nothing else, and decides none of it again.

    request: as it was asked, in the words of the runner.
    values:  {name: value} as used, with what the kind has no field for. A seed of None is drawn by the run.
    model:   the family that it was decided for; None for a provider, or for no family in particular.
    size:    of the result; None where there is no family to decide it.
    """

    request: WanRequest
    values: Mapping[str, Any]
    model: str | None = None
    size: Size | None = None
    media: MediaFacts = NOTHING_KNOWN

    def as_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        size = None if self.size is None else self.size._asdict()
        values: dict[str, Any] = to_jsonable_python(dict(self.values))
        return {"values": values, "size": size, "media": self.media.as_dict()}
