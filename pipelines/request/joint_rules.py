"""Says which fields of a request its provider does not take together, as its contract states it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .base import WanRequest
from .contracts import KIND_ENTRIES
from .report import Finding

__all__ = ["joint_findings"]

_ENTRIES: Mapping[str, Mapping[str, Any]] = {entry["contract"]: entry for entry in KIND_ENTRIES}


def joint_findings(request: WanRequest) -> Iterator[Finding]:
    """Yield an impossible finding for each demand that the provider would ignore or refuse."""
    entry, values = _ENTRIES.get(request.contract, {}), request.model_dump(mode="json")
    for field, others in entry.get("ignored", {}).items():
        for other, state in others.items():
            demanded = values[field] and not request.is_preference(field)
            if demanded and bool(values[other]) == state:
                yield _impossible(field, values, _ignored(other, values[other]))
    apart = entry.get("apart", ())
    if sum(values[field] is not None for field in apart) > 1:
        yield _impossible(apart[-1], values, f"not taken together with {apart[0]}; leave out one of the two")
    one_of = entry.get("one_of", ())
    if one_of and all(values[field] is None for field in one_of):
        yield _impossible(one_of[0], values, f"this kind needs {' or '.join(one_of)}; give one of them")


def _impossible(field: str, values: Mapping[str, Any], reason: str) -> Finding:
    return Finding(field, "impossible", values[field], None, reason)


def _ignored(other: str, value: Any) -> str:
    if not isinstance(value, bool) and value is not None:
        return f"the provider ignores it beside {other}; leave out one of the two"
    change = "off" if value else "on"
    return f"the provider ignores it while {other} is {'on' if value else 'off'}; turn {other} {change}"
