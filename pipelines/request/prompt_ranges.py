"""Prompts for parts of a clip: each range of frames adds its own words to the prompt of the request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import accumulate, pairwise
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from .storyboard import read_parts, split_parts
from .strict_model import UNREADABLE, StrictModel
from .timing import LATENT_STRIDE, generated_frames

__all__ = ["PromptRange", "PromptRanges", "latent_lengths", "texts_of_ranges"]

_LONGEST_S = 600
_FROM_TO = re.compile(r"(\d+(?:\.\d+)?)\s?-\s?(\d+(?:\.\d+)?)\s?s\s*:", re.IGNORECASE)
_WANTED = 'write "0-2s: a fox runs | 2-5s: it jumps" or "2s: a fox runs | it jumps", or give a JSON list'


class PromptRange(StrictModel):
    """A part of the clip. Ranges follow each other from the first frame to the last.

    prompt: follows the words of the request's prompt; empty adds none.
    seconds, num_frames: the length; with neither, the ranges without one share what is left.
    """

    contract: ClassVar[str] = "PromptRange"

    prompt: str
    seconds: float | None = Field(None, gt=0, le=_LONGEST_S)
    num_frames: int | None = Field(None, ge=1)

    def length(self, fps: float) -> float | None:
        """Return its frames, not rounded; None without a length."""
        return self.num_frames if self.seconds is None else self.seconds * fps


def _read_text(value: Any) -> Any:
    """Return ranges written as text in the form of JSON."""
    if not isinstance(value, str):
        return value
    try:
        return tuple(read_parts(_with_lengths(split_parts(value))))
    except ValueError as error:
        raise PydanticCustomError(UNREADABLE, f"range {error}; {_WANTED}") from None


def _with_lengths(parts: Sequence[str]) -> Iterator[str]:
    """Yield the parts with "2-5s:" written as "3s:". Raises ValueError where one begins elsewhere."""
    end = Decimal(0)
    for number, part in enumerate(parts, 1):
        match = _FROM_TO.match(part)
        if match is None:
            end = Decimal(-1)  # not known, so none begins there
            yield part
            continue
        first, last = map(Decimal, match.groups())
        if first != end or last <= first:
            found = f"{number}: {match[0][:-1].strip()!r}"
            raise ValueError(f"{found} must begin where the one before ends, and end later")
        end = last
        yield f"{last - first}s:{part[match.end() :]}"


# Not strict for the container: JSON has lists, frozen data has tuples.
PromptRanges = Annotated[tuple[PromptRange, ...], Field(strict=False), BeforeValidator(_read_text)]


def latent_lengths(ranges: Sequence[PromptRange], num_frames: int, fps: float) -> tuple[int, ...]:
    """Return the latent frames of each range: together those of a clip of `num_frames`.

    A border between two latent frames is the next 4n + 1 frames from the first one on. Raises ValueError,
    worded for the user, when the ranges do not fill the clip, or one has no latent frame.
    """
    for index, one in enumerate(ranges):
        if one.seconds is not None and one.num_frames is not None:
            raise ValueError(f"prompt_ranges[{index}].seconds: given beside num_frames; give one of the two")
    stated = [one.length(fps) for one in ranges]
    unstated, rest = stated.count(None), num_frames - sum(filter(None, stated))
    ends = list(accumulate(rest / unstated if length is None else length for length in stated))
    borders = [0, *(_latent_frames(round(end)) for end in ends)]
    if borders[-1] != _latent_frames(num_frames) or rest < 0 < unstated:
        asked = f"{num_frames - rest:g}"
        raise ValueError(
            f"the ranges have {asked} of {num_frames} frames at {fps:g} fps; make them as long as the clip, "
            "or leave out the length of one"
        )
    lengths = tuple(late - early for early, late in pairwise(borders))
    if min(lengths) < 1:
        reason = f"has no latent frame of its own, which are {LATENT_STRIDE} frames each; make it longer"
        raise ValueError(f"prompt_ranges[{lengths.index(min(lengths))}]: {reason}")
    return lengths


def _latent_frames(frames: int) -> int:
    return (generated_frames(frames) - 1) // LATENT_STRIDE + 1


def texts_of_ranges(prompt: str, ranges: Sequence[PromptRange]) -> dict[str, str]:
    """Return {field: text that is encoded} for each range. prompt: of the whole clip, which comes first."""
    return {
        f"local.prompt_ranges[{index}].prompt": f"{prompt.rstrip()} {one.prompt.strip()}"
        if one.prompt.strip()
        else prompt
        for index, one in enumerate(ranges)
    }
