"""Reads the ranges that providers publish, as dated data, and the wider ones that hold everywhere.

A provider's range holds where that provider is asked. Where its sources disagree, the newest validates.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Any, NamedTuple

from .contracts import stated_limits

__all__ = ["Limit", "Range", "dated_limits", "newest_limit", "why_refused"]


class Range(NamedTuple):
    """What a value may be on any machine. None at an open end. above: `min` itself is excluded."""

    min: float | None
    max: float | None
    above: bool = False

    def __str__(self) -> str:
        low = f"above {self.min}" if self.above else f"{self.min} or more"
        if self.max is None:
            return low
        if self.min is None:
            return f"{self.max} or less"
        return f"{low} and up to {self.max}" if self.above else f"from {self.min} to {self.max}"


class Limit(NamedTuple):
    """A range or the choices that a provider publishes. Both ends are included; None if none is stated.

    For text the ends count characters, for a list items.
    """

    provider: str
    min: float | None
    max: float | None
    as_of: str
    source: str
    multiple_of: int | None = None
    choices: tuple[Any, ...] | None = None

    def allows(self, value: Any) -> bool:
        if self.choices is not None:
            return value in self.choices
        size = len(value) if isinstance(value, Sized) else value
        within = (self.min is None or size >= self.min) and (self.max is None or size <= self.max)
        return within and (self.multiple_of is None or size % self.multiple_of == 0)

    def as_dict(self) -> dict[str, Any]:
        """Return what the provider states as JSON values, without its name."""
        return {
            name: value for name, value in self._asdict().items() if value is not None and name != "provider"
        }

    def __str__(self) -> str:
        if self.choices is not None:
            return "one of " + ", ".join(map(str, self.choices))
        text = str(Range(self.min, self.max))
        return text if self.multiple_of is None else f"{text} in multiples of {self.multiple_of}"


def _limit(item: dict[str, Any]) -> Limit:
    choices = tuple(item["enum"]) if "enum" in item else None
    ends = item.get("min"), item.get("max")
    return Limit(item["provider"], *ends, item["as_of"], item["source"], item.get("multiple_of"), choices)


_LIMITS = {
    contract: {field: tuple(_limit(dict(item)) for item in items) for field, items in fields.items()}
    for contract, fields in stated_limits().items()
}


def dated_limits(contract: str, field: str) -> tuple[Limit, ...]:
    """Return all published ranges of a field, oldest first. Empty if there is none."""
    return _LIMITS.get(contract, {}).get(field, ())


def newest_limit(contract: str, field: str) -> Limit | None:
    return next(reversed(dated_limits(contract, field)), None)


def why_refused(contract: str, field: str, value: Any) -> str | None:
    """Return why the provider of `contract` refuses this value. None if it is unset or allowed there."""
    limit = newest_limit(contract, field)
    if limit is None or value is None or limit.allows(value):
        return None
    unit = " characters" if isinstance(value, str) and limit.choices is None else ""
    unit = " items" if isinstance(value, list | tuple) else unit
    return f"{limit.provider} accepts {limit}{unit}; change it, or run the request on this machine"
