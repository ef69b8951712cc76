"""Reads a storyboard: shots as one line of text, such as "5s: a fox runs | 3s continue: it jumps"."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

from ..errors import RequestError

__all__ = ["JOIN_WORDS", "read_parts", "read_storyboard", "split_parts"]

JOIN_WORDS = ("cut", "continue", "overlap", "dissolve")
# {a|b} and {a|{b|c}} of ComfyUI's page, [a|b] of A1111.
_CHOICES = re.compile(r"\{(?:[^{}\n]|\{[^{}\n]*\})*\}|\[[^\[\]\n]*\]")
_BETWEEN = re.compile(r"(?<!\\)[|\n]")
_HEAD = re.compile(
    r"\s*(?:(\d+(?:\.\d+)?)\s?(s|f)(?=\s|:|$))?\s*([a-z]*)([^:]*)(:?)(.*)", re.DOTALL | re.IGNORECASE
)
_WRONG_LENGTH = re.compile(r"\s*[-+]?\d[\d.,/e]*\s?(s|secs?|seconds?|f|frames?)\b", re.IGNORECASE)
_TYPO = 0.8  # how like a word for a join a word is that was meant as one


def read_storyboard(text: str) -> list[dict[str, Any]]:
    r"""Return a shot for each part between `|` or line ends, as an entry of `shots`.

    A part is a prompt, or LENGTH JOIN: PROMPT where length (5s or 81f) and join are optional. `\|` stands for
    a `|` in a prompt, as does a `|` in {a|b} or [a|b]. Parts without a character are skipped.

    Raises RequestError on `storyboard` that names the shot.
    """
    try:
        shots = read_parts(split_parts(text))
    except ValueError as error:
        fix = "write it as 5s continue: what the shot shows"
        raise RequestError.of("storyboard", f"shot {error}", fix) from None
    if not shots:
        raise RequestError.of("storyboard", "no shot in it", "write 5s: a fox runs | 3s continue: it jumps")
    return shots


def split_parts(text: str) -> list[str]:
    """Return the parts between `|` or line ends that have a character."""
    text = _CHOICES.sub(lambda found: _BETWEEN.sub(r"\\|", found[0]), text)
    parts = (part.replace(r"\|", "|").strip() for part in _BETWEEN.split(text))
    return list(filter(None, parts))


def read_parts(parts: Iterable[str]) -> list[dict[str, Any]]:
    """Return prompt, length and join of each part. Raises ValueError such as "2: '3sec' is no length"."""
    return [_part(part, number) for number, part in enumerate(parts, 1)]


def _part(part: str, number: int) -> dict[str, Any]:
    amount, unit, word, rest, colon, prompt = _HEAD.fullmatch(part).groups()  # type: ignore[union-attr]
    join = f"{word}{rest}".strip().lower()
    meant = colon and difflib.get_close_matches(word.lower(), JOIN_WORDS, 1, _TYPO)
    if amount is None and not meant:
        if colon and _WRONG_LENGTH.match(part):
            raise ValueError(f"{number}: {part.partition(':')[0][:40]!r} is no length")
        return {"prompt": part}
    found: dict[str, Any] = {} if amount is None else _length(amount, unit.lower(), number)
    if join:
        found["join"] = join
    if not colon or not prompt.strip():
        raise ValueError(f"{number}: {part[:40]!r} has no prompt after a colon")
    return {**found, "prompt": prompt.strip()}


def _length(amount: str, unit: str, number: int) -> dict[str, Any]:
    if unit == "s":
        return {"seconds": float(amount)}
    if "." in amount:
        raise ValueError(f"{number}: {amount}f is no number of frames")
    return {"num_frames": int(amount)}
