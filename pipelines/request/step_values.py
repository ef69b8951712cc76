"""Reads a value that may change from step to step: a number, a list, or text such as "0:1.0, 4:0.5"."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from .strict_model import UNREADABLE

__all__ = [
    "MOVING_VALUE",
    "OptionalStepValues",
    "StepValues",
    "at_each",
    "is_constant",
    "numbers_in_text",
    "numbers_of",
    "strongest",
]

MOVING_VALUE = 'a number, a list with one for each step, or text such as "0:1.0, 4:0.5"'
_FROM = re.compile(r"\s*(\d+)\s*:\s*(\S+)\s*")


def at_each(value: float | tuple[float, ...] | str, steps: int) -> tuple[float, ...]:
    """Return the value at each of `steps` steps.

    value: as `StepValues` has it. Text holds pairs STEP:VALUE, and each value is used from its step on.

    Raises ValueError, worded for the user, when a list has another length or a pair lies behind the steps.
    """
    if isinstance(value, float | int):
        return (float(value),) * steps
    if isinstance(value, tuple):
        if len(value) != steps:
            raise ValueError(f"has {len(value)} values for {steps} steps; give one for each step")
        return value
    pairs = _pairs(value)
    last = max(pairs)
    if last >= steps:
        raise ValueError(f"step {last} is not among the {steps} steps, which are counted from 0")
    starts = [max(start for start in pairs if start <= step) for step in range(steps)]
    return tuple(pairs[start] for start in starts)


def is_constant(value: float | tuple[float, ...] | str | None) -> bool:
    """Return whether the value is one number, or unset."""
    return value is None or isinstance(value, float | int)


def numbers_of(value: float | tuple[float, ...] | str) -> tuple[float, ...]:
    """Return all numbers that the value has."""
    if isinstance(value, str):
        return tuple(_pairs(value).values())
    return value if isinstance(value, tuple) else (value,)


def strongest(value: float | tuple[float, ...] | str) -> float:
    """Return the number that is furthest from 0."""
    return max(numbers_of(value), key=abs)


def numbers_in_text(value: Any) -> Any:
    """Return the numbers of text such as "3.5, 3.5, 1". Anything else stays as it is, for a validator."""
    try:
        return tuple(map(float, value.split(","))) if isinstance(value, str) else value
    except ValueError:
        return value


def _read(value: Any) -> Any:
    """Return the value in its plainest form. Text with pairs stays text."""
    if value is None:
        return None
    if isinstance(value, list | tuple):
        return tuple(_finite(value))
    if not isinstance(value, str):
        return _finite([value])[0]
    if ":" in value:
        _pairs(value)
        return value.strip()
    numbers = _finite([_number(part) for part in value.split(",")])
    return numbers[0] if len(numbers) == 1 else tuple(numbers)


def _pairs(text: str) -> dict[int, float]:
    """Return {first step: value} of text with pairs. The steps rise from 0."""
    found: dict[int, float] = {}
    for part in text.split(","):
        match = _FROM.fullmatch(part)
        if match is None or int(match[1]) <= max(found, default=-1):
            raise _unreadable()
        found[int(match[1])] = _finite([_number(match[2])])[0]
    if 0 not in found:
        raise _unreadable()
    return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _unreadable() from None


def _finite(values: Any) -> list[float]:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, float | int) or not math.isfinite(value):
            raise _unreadable()
    if not values:
        raise _unreadable()
    return [float(value) for value in values]


def _unreadable() -> PydanticCustomError:
    return PydanticCustomError(UNREADABLE, f"give {MOVING_VALUE}")


# One validator, so that a wrong value is one error and not one for each form. None leaves a field unset.
StepValues = Annotated[float | tuple[float, ...] | str, BeforeValidator(_read)]
OptionalStepValues = Annotated[float | tuple[float, ...] | str | None, BeforeValidator(_read)]
