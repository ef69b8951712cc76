"""Reads how a shot joins the one before it."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from ..errors import RequestError
from .field_rows import closest
from .storyboard import JOIN_WORDS

__all__ = ["Join", "read_join"]

_WAYS = (
    "give cut, continue, overlap N with the number of frames to go on from (5, 9, 13, ...), or dissolve N "
    "with the number of frames to mix"
)


class Join(NamedTuple):
    """kind: how. frames: how many overlap or are mixed, else 0."""

    kind: Literal["cut", "continue", "overlap", "dissolve"]
    frames: int = 0

    @property
    def given(self) -> int:
        """With how many frames of the shot before the shot begins."""
        return 1 if self.kind == "continue" else self.frames if self.kind == "overlap" else 0

    @property
    def mixed(self) -> int:
        """How many frames are mixed with those of the shot before."""
        return self.frames if self.kind == "dissolve" else 0

    @property
    def doubled(self) -> int:
        """How many frames of the shot take no time of their own in the video."""
        return self.given + self.mixed

    def text(self) -> str:
        """Return what `read_join` reads."""
        return f"{self.kind} {self.frames}" if self.frames else self.kind


def read_join(text: str, field: str) -> Join:
    """Read "cut", "continue", "overlap N" or "dissolve N". Raises RequestError on `field` for anything else.

    The N of an overlap is 4 n + 1 above 1: whole latent frames are given.
    """
    word, *rest = text.split()[:3] or [""]
    count = int(rest[0]) if len(rest) == 1 and re.fullmatch(r"[1-9]\d{0,3}", rest[0]) else None
    if word in ("cut", "continue") and not rest:
        return Join(word)  # type: ignore[arg-type]
    if word == "dissolve" and count is not None:
        return Join("dissolve", count)
    if word == "overlap" and count is not None and count > 1 and count % 4 == 1:
        return Join("overlap", count)
    near = closest(word, JOIN_WORDS)
    hint = f"; did you mean {near}?" if near and near != word else ""
    raise RequestError.of(field, f"got {text[:40]!r}", f"{_WAYS}{hint}")
