"""Reads a storyboard: shots as one line of text, such as "5s: a fox runs | 3s continue: it jumps"."""

from __future__ import annotations

import difflib
import re
from typing import Any

from ..errors import RequestError
from .joins import JOIN_WORDS

__all__ = ["read_storyboard"]

_BETWEEN = re.compile(r"(?<!\\)[|\n]")
_HEAD = re.compile(
    r"\s*(?:(\d+(?:\.\d+)?)\s?(s|f)(?=\s|:|$))?\s*([a-z]*)([^:]*)(:?)(.*)", re.DOTALL | re.IGNORECASE
)
_WRONG_LENGTH = re.compile(r"\s*[-+]?\d[\d.,/e]*\s?(s|secs?|seconds?|f|frames?)\b", re.IGNORECASE)
_TYPO = 0.8  # how like a word for a join a word is that was meant as one


def read_storyboard(text: str) -> list[dict[str, Any]]:
    r"""Return a shot for each part between `|` or line ends, as an entry of `shots`.

    A part is a prompt, or LENGTH JOIN: PROMPT where length (5s or 81f) and join are optional. `\|` stands for
    a `|` in a prompt. Parts without a character are skipped.

    Raises RequestError on `storyboard` that names the shot.
    """
    parts = [part.replace(r"\|", "|").strip() for part in _BETWEEN.split(text)]
    shots = [_shot(part, number) for number, part in enumerate(filter(None, parts), 1)]
    if not shots:
        raise RequestError.of("storyboard", "no shot in it", "write 5s: a fox runs | 3s continue: it jumps")
    return shots


def _shot(part: str, number: int) -> dict[str, Any]:
    amount, unit, word, rest, colon, prompt = _HEAD.fullmatch(part).groups()  # type: ignore[union-attr]
    join = f"{word}{rest}".strip().lower()
    meant = colon and difflib.get_close_matches(word.lower(), JOIN_WORDS, 1, _TYPO)
    if amount is None and not meant:
        if colon and _WRONG_LENGTH.match(part):
            raise _wrong(number, f"{part.partition(':')[0][:40]!r} is no length")
        return {"prompt": part}
    found: dict[str, Any] = {} if amount is None else _length(amount, unit.lower(), number)
    if join:
        found["join"] = join
    if not colon or not prompt.strip():
        raise _wrong(number, f"{part[:40]!r} has no prompt after a colon")
    return {**found, "prompt": prompt.strip()}


def _length(amount: str, unit: str, number: int) -> dict[str, Any]:
    if unit == "s":
        return {"seconds": float(amount)}
    if "." in amount:
        raise _wrong(number, f"{amount}f is no number of frames")
    return {"num_frames": int(amount)}


def _wrong(number: int, found: str) -> RequestError:
    return RequestError.of(
        "storyboard", f"shot {number}: {found}", "write it as 5s continue: what the shot shows"
    )
