"""Tokens of a video that see only a part of the text: exact, and without a mask over all tokens.

A dense mask of tokens x text would take gigabytes, and the fastest attention kernels take none. Tokens of
consecutive latent frames that see the same part share one call instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

__all__ = ["TextRun", "TextRuns"]


class TextRun(NamedTuple):
    """So many consecutive tokens of the video, and what they see: from token `first` of the text to `end`."""

    tokens: int
    first: int
    end: int


class TextRuns(NamedTuple):
    """What the tokens of a forward see of a text of `length` tokens. runs: of all tokens, in order."""

    length: int
    runs: tuple[TextRun, ...]

    @classmethod
    def of_frames(cls, length: int, seen: Sequence[tuple[int, int]], tokens: int) -> TextRuns:
        """Join frames that see the same. seen: (first, end) of each frame. tokens: of a frame."""
        runs = (TextRun(len(list(frames)) * tokens, *span) for span, frames in groupby(seen))
        return cls(length, tuple(runs))

    def within(self, here: slice) -> TextRuns:
        """Return the runs of these tokens alone. here: with a start and a stop."""
        kept, at = list[TextRun](), 0
        for run in self.runs:
            common = min(at + run.tokens, here.stop) - max(at, here.start)
            if common > 0:
                kept.append(TextRun(common, run.first, run.end))
            at += run.tokens
        return TextRuns(self.length, tuple(kept))
