"""Reads the ranges that providers publish, as dated data. Where sources disagree, the newest validates."""

from __future__ import annotations

from collections.abc import Sized
from typing import NamedTuple

from .contracts import stated_limits

__all__ = ["Limit", "dated_limits", "newest_limit"]


class Limit(NamedTuple):
    """A published range. Both ends are included. None if the source states no such end.

    For text it counts characters, for a list items.
    """

    min: float | None
    max: float | None
    as_of: str
    source: str
    multiple_of: int | None = None

    def allows(self, value: float | Sized) -> bool:
        size = len(value) if isinstance(value, Sized) else value
        within = (self.min is None or size >= self.min) and (self.max is None or size <= self.max)
        return within and (self.multiple_of is None or size % self.multiple_of == 0)

    def __str__(self) -> str:
        if self.max is None:
            text = f"{self.min} or more"
        else:
            text = f"{self.max} or less" if self.min is None else f"from {self.min} to {self.max}"
        return text if self.multiple_of is None else f"{text} in multiples of {self.multiple_of}"


_LIMITS = {
    contract: {
        field: tuple(
            Limit(item.get("min"), item.get("max"), item["as_of"], item["source"], item.get("multiple_of"))
            for item in items
        )
        for field, items in fields.items()
    }
    for contract, fields in stated_limits().items()
}


def dated_limits(contract: str, field: str) -> tuple[Limit, ...]:
    """Return all published ranges of a field, oldest first. Empty if there is none."""
    return _LIMITS.get(contract, {}).get(field, ())


def newest_limit(contract: str, field: str) -> Limit | None:
    return next(reversed(dated_limits(contract, field)), None)
