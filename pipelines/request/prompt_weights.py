"""Splits a prompt into segments with weights, as token_weights in comfy/sd1_clip.py does.

    a (red) ((big:1.4) ball:0.5) \\(really\\)

A bare pair of parentheses multiplies the weight by 1.1. A number after the last colon in a pair replaces it.
A backslash makes a parenthesis text.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["PromptSyntax", "Segment", "has_number", "is_plain", "weighted_segments"]

# plain: every character is text, as providers read a prompt. comfy: weights as in ComfyUI.
PromptSyntax = Literal["plain", "comfy"]

_BARE = 1.1
# What stands for an escaped parenthesis while the others are matched.
_OPEN, _CLOSED = "\0\2", "\0\1"


class Segment(NamedTuple):
    text: str
    weight: float


def weighted_segments(prompt: str) -> list[Segment]:
    """Return the text of a prompt in order, with the weight of each part.

    Parentheses without a partner are text. Where ComfyUI splits at one, so does this.
    """
    found: list[Segment] = []
    waiting = [(prompt.replace(r"\)", _CLOSED).replace(r"\(", _OPEN), 1.0, False)]
    while waiting:
        text, weight, is_text = waiting.pop()
        if is_text:
            found.append(Segment(text.replace(_CLOSED, ")").replace(_OPEN, "("), weight))
            continue
        for part in reversed(_parts(text)):
            is_pair = len(part) > 1 and part[0] == "(" and part[-1] == ")"
            waiting.append((*_inside(part, weight), False) if is_pair else (part, weight, True))
    return found


def is_plain(prompt: str) -> bool:
    """Return whether a prompt is one segment of weight 1, with its text unchanged."""
    return weighted_segments(prompt) in ([], [Segment(prompt, 1.0)])


def _parts(text: str) -> list[str]:
    """Split a text before and after each outermost pair of parentheses."""
    parts, part, depth = [], "", 0
    for letter in text:
        if letter == "(" and depth == 0 and part:
            parts.append(part)
            part = ""
        part += letter
        depth += (letter == "(") - (letter == ")")
        if letter == ")" and depth == 0:
            parts.append(part)
            part = ""
    return [*parts, part] if part else parts


def has_number(pair: str) -> bool:
    """Return whether a pair of parentheses ends with a colon and a number: the weight of its text."""
    return _number_of(pair) is not None


def _number_of(pair: str) -> tuple[str, float] | None:
    text, colon, number = pair[1:-1].rpartition(":")
    if not (colon and text):
        return None
    try:
        return text, float(number)
    except ValueError:
        return None


def _inside(pair: str, weight: float) -> tuple[str, float]:
    """Return the text in a pair of parentheses, and its weight."""
    return _number_of(pair) or (pair[1:-1], weight * _BARE)
