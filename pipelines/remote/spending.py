"""What the user has to say about money: limits, and prices that are better known than ours.

    {"per_run_usd": 0.5, "per_day_usd": 5, "late_after_minutes": 60, "cancel_late": false,
     "machine": {"usd_per_hour": 2.5, "usd_per_kwh": 0.3, "watts": 350},
     "prices": {"fal-ai/wan-22": {"unit": "video", "usd": 0.1, "as_of": "2026-11", "source": "my invoice"}}}

A job that takes longer than `late_after_minutes` is reported, and cancelled only with `cancel_late`. A price
has the form of those in request/prices.json, and takes the place of ours. `machine` says what this machine
costs: its hour, its energy, or both.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import RequestError
from ..request.field_rows import closest, field_rows
from ..request.kinds import SENDABLE, TRAININGS
from ..request.machine_price import MachinePrices
from ..request.prices import PRICES, PriceTable
from .spending_limits import SpendingLimits

__all__ = ["Spending", "read_spending"]

_FILE = "spending.json"
_UNITS = ("video_second", "second", "step", "video", "image")
_COUNTED = {"second": "duration", "step": "number_of_steps"}  # {unit: the field that it counts}
_MOST, _MOST_FPS, _MOST_MINUTES = 10**6, 1000, 10**5  # above them somebody has mistyped
_MACHINE_UNITS = {"usd_per_hour": "US dollars", "usd_per_kwh": "US dollars", "watts": "watts"}
_ENTRY = {"unit", "usd", "as_of", "source"}
_MORE = {"by", "counted_fps", "other_usd", "billed_inputs", "least"}


@dataclass(frozen=True)
class Spending:
    """The user's limits and prices. prices: of every endpoint; the user's replace ours. machine: this one."""

    limits: SpendingLimits = field(default_factory=SpendingLimits)
    prices: PriceTable = field(default_factory=lambda: PRICES)
    machine: MachinePrices = field(default_factory=MachinePrices)


def read_spending(folder: Path | None) -> Spending:
    """Return the settings of the file in `folder`.

    Raises RequestError that names the wrong entry: a limit that is misread is no limit.
    """
    if folder is None:
        return Spending()
    file = folder / _FILE
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Spending()
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError.of(str(file), f"cannot be read: {error}", "correct or delete it") from None
    known = {"per_run_usd", "per_day_usd", "late_after_minutes", "cancel_late", "prices", "machine"}
    if not isinstance(content, dict) or set(content) - known:
        found = ", ".join(sorted(set(content) - known)) if isinstance(content, dict) else "no table"
        raise RequestError.of(str(file), f"found {found}", f"give {', '.join(sorted(known))}")
    limits = SpendingLimits(
        **{
            name: None if content.get(name) is None else _usd(content[name], f"{file}: {name}")
            for name in ("per_run_usd", "per_day_usd")
        },
        late_after_s=60 * _minutes(content.get("late_after_minutes", 60), f"{file}: late_after_minutes"),
        cancel_late=_yes_or_no(content.get("cancel_late", False), f"{file}: cancel_late"),
    )
    prices = content.get("prices", {})
    if not isinstance(prices, dict):
        raise RequestError.of(f"{file}: prices", "not a table", "give {endpoint: entry}")
    own = {
        endpoint: _entry(endpoint, entry, f"{file}: prices.{endpoint}") for endpoint, entry in prices.items()
    }
    return Spending(limits, {**PRICES, **own}, _machine(content.get("machine", {}), f"{file}: machine"))


def _entry(endpoint: str, entry: Any, where: str) -> dict[str, Any]:
    classes = {cls.endpoint: cls for cls in (*SENDABLE.values(), *TRAININGS.values())}
    if (cls := classes.get(endpoint)) is None:
        near = closest(endpoint, classes)
        fix = f"did you mean {near}?" if near else "`wan-duet kinds` lists the endpoints"
        raise RequestError.of(where, "there is no such endpoint", fix)
    if not isinstance(entry, dict) or _ENTRY - set(entry) or set(entry) - _ENTRY - _MORE:
        raise RequestError.of(
            where, "not a price", f"give {', '.join(sorted(_ENTRY))}; {', '.join(sorted(_MORE))} too"
        )
    if entry["unit"] not in _UNITS:
        raise RequestError.of(f"{where}.unit", f"got {entry['unit']!r}", f"give one of {', '.join(_UNITS)}")
    if (counted := _COUNTED.get(entry["unit"])) and counted not in cls.model_fields:
        fix = f"{cls.kind} has no {counted}; give another unit"
        raise RequestError.of(f"{where}.unit", f"got {entry['unit']!r}", fix)
    for name in ("as_of", "source"):
        if not isinstance(entry[name], str) or not entry[name]:
            raise RequestError.of(f"{where}.{name}", f"got {entry[name]!r}", "say it in words")
    fps = entry.get("counted_fps", 16)
    if not isinstance(fps, int) or isinstance(fps, bool) or not 1 <= fps <= _MOST_FPS:
        raise RequestError.of(f"{where}.counted_fps", f"got {str(fps)[:40]}", "give frames per second")
    if "other_usd" in entry:
        entry = {**entry, "other_usd": _usd(entry["other_usd"], f"{where}.other_usd")}
    least = entry.get("least", 0)
    if not isinstance(least, int) or isinstance(least, bool) or least < 0:
        raise RequestError.of(f"{where}.least", f"got {least!r}", "give a whole number from 0")
    ours = PRICES.get(endpoint, {})
    if "billed_inputs" in ours:  # another price per second, of the same seconds
        entry = {**entry, "billed_inputs": ours["billed_inputs"]}
    elif "billed_inputs" in entry:
        raise RequestError.of(f"{where}.billed_inputs", "no input of it is billed", "leave it out")
    if "by" not in entry:
        return {**entry, "usd": _usd(entry["usd"], f"{where}.usd")}
    choices = {row.name: row.enum for row in field_rows(cls) if row.type == "enum" and row.enum}
    chosen = next((values for name, values in choices.items() if name == entry["by"]), None)
    if chosen is None:
        fix = f"give one of {', '.join(choices)}, or leave it out"
        raise RequestError.of(f"{where}.by", f"got {entry['by']!r}", fix)
    if not isinstance(entry["usd"], dict):
        raise RequestError.of(f"{where}.usd", "not a table", f"give a price for each {entry['by']}")
    if unknown := sorted(set(entry["usd"]) - set(chosen)):
        raise RequestError.of(f"{where}.usd", f"got {unknown[0]!r}", f"give {', '.join(sorted(chosen))}")
    usd = {value: _usd(one, f"{where}.usd.{value}") for value, one in entry["usd"].items()}
    return {**entry, "usd": usd}


def _machine(content: Any, where: str) -> MachinePrices:
    if not isinstance(content, dict) or set(content) - set(_MACHINE_UNITS):
        raise RequestError.of(where, f"got {str(content)[:60]}", f"give {', '.join(_MACHINE_UNITS)}")
    return MachinePrices(
        **{name: _amount(value, f"{where}.{name}", _MACHINE_UNITS[name]) for name, value in content.items()}
    )


def _usd(value: Any, where: str) -> float:
    return _amount(value, where, "US dollars")


def _amount(value: Any, where: str, unit: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _MOST:
        raise RequestError.of(where, f"got {value!r}", f"give {unit}, from 0 to {_MOST}")
    return abs(float(value))


def _minutes(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= _MOST_MINUTES:
        raise RequestError.of(where, f"got {value!r}", f"give minutes, above 0 and up to {_MOST_MINUTES}")
    return float(value)


def _yes_or_no(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise RequestError.of(where, f"got {value!r}", "give true or false")
    return value
