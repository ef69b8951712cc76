"""Reads how a shot joins the one before it."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from ..errors import RequestError
from .field_rows import closest

__all__ = ["JOIN_WORDS", "Join", "read_join"]

JOIN_WORDS = ("cut", "continue", "dissolve")
_WAYS = "give cut, continue, or dissolve N with the number of frames to mix"


class Join(NamedTuple):
    """kind: how. frames: how many are mixed in a dissolve, else 0."""

    kind: Literal["cut", "continue", "dissolve"]
    frames: int = 0

    @property
    def doubled(self) -> int:
        """How many frames of the shot take no time of their own in the video."""
        return 1 if self.kind == "continue" else self.frames

    def text(self) -> str:
        """Return what `read_join` reads."""
        return f"{self.kind} {self.frames}" if self.frames else self.kind


def read_join(text: str, field: str) -> Join:
    """Read "cut", "continue" or "dissolve N". Raises RequestError on `field` for anything else."""
    word, *rest = text.split()[:3] or [""]
    if word in ("cut", "continue") and not rest:
        return Join(word)  # type: ignore[arg-type]
    if word == "dissolve" and len(rest) == 1 and re.fullmatch(r"[1-9]\d{0,3}", rest[0]):
        return Join("dissolve", int(rest[0]))
    near = closest(word, JOIN_WORDS)
    hint = f"; did you mean {near}?" if near and near != word else ""
    raise RequestError.of(field, f"got {text[:40]!r}", f"{_WAYS}{hint}")
