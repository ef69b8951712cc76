"""Estimates the price of a run from published, dated prices, and states the assumptions.

An entry of the table may also hold what earlier jobs cost and took (`remote/experience.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from .base import WanRequest
from .image_size import pixels
from .timing import frames_out, output_fps

__all__ = ["PRICES", "Price", "PriceTable", "estimate"]

_CHARGE_TOLERANCE = 0.05  # how far charge and estimate may part without a warning
PriceTable = Mapping[str, Mapping[str, Any]]


def _read() -> PriceTable:
    data: dict[str, Any] = json.loads(Path(__file__).with_name("prices.json").read_text(encoding="utf-8"))
    return {endpoint: entry for endpoint, entry in data.items() if not endpoint.startswith("_")}


PRICES: PriceTable = _read()  # {endpoint: entry}, described in the note of prices.json


@dataclass(frozen=True)
class Price:
    """A price in US dollars. None means unknown, never free.

    usd:       the most likely price.
    low, high: its range if the provider does not publish how it counts. Else equal to usd.
    as_of:     "2026-08", "before 2026-08" (seen on an unknown earlier day), or None without a source.
    """

    usd: float | None
    low: float | None
    high: float | None
    assumption: str
    source: str | None = None
    as_of: str | None = None

    def text(self) -> str:
        if self.usd is None or self.low is None or self.high is None:
            return f"unknown ({self.assumption})"
        if self.source is None:
            return f"{self.amount()} ({self.assumption})"
        amount = f"about {_dollars(self.usd)}"
        if self.low != self.high:
            amount += f", from {_dollars(self.low)} to {_dollars(self.high)}"
        return f"{amount} ({self.assumption}; {self.source}, {self.as_of})"

    def amount(self) -> str:
        """Return the price or its range in one word or two."""
        if self.usd is None or self.low is None or self.high is None:
            return "unknown"
        if self.source is None:
            return f"${self.usd:.2f}"
        return _dollars(self.low) if self.low == self.high else f"{_dollars(self.low)}-{_dollars(self.high)}"


def estimate(request: WanRequest, runner: str, prices: PriceTable = PRICES) -> Price:
    """Estimate the price of `request` on `runner`. Unknown for a request of another provider."""
    if runner == "local":
        return Price(0.0, 0.0, 0.0, "your own machine")
    entry = prices.get(request.endpoint)
    if entry is None or "usd" not in entry or request.provider != runner:
        return _unknown(f"{runner} has no published price for {request.kind}")
    values = request.model_dump()
    usd = entry["usd"] if "by" not in entry else entry["usd"].get(values[entry["by"]])
    if usd is None:
        return _unknown(f"no price is published for {values[entry['by']]}")
    if entry["unit"] == "video_second" and "num_frames" not in values:
        return _unknown("the provider decides the length")
    likely, others, assumption = _counts(entry, values)
    assumption += _charged(entry)
    amounts = [usd * count for count in (likely, *others)]
    return Price(amounts[0], min(amounts), max(amounts), assumption, entry["source"], entry["as_of"])


def _unknown(why: str) -> Price:
    return Price(None, None, None, why)


def _counts(entry: Mapping[str, Any], values: Mapping[str, Any]) -> tuple[float, list[float], str]:
    """Return the likely number of units, other possible numbers, and the assumption."""
    if entry["unit"] == "video":
        return 1, [], "one price for a video of any length"
    if entry["unit"] == "image":
        if values.get("image_size") is None:
            return 1, [], "per image; it may be per megapixel, and the size depends on the input"
        return 1, [prod(pixels(values["image_size"])) / 1e6], "per image; it may be per megapixel"
    frames: int = values["num_frames"]
    between: int = values.get("num_interpolated_frames") or 0
    if values.get("interpolator_model") == "none":
        between = 0
    counted: int = entry.get("counted_fps", 16)
    others, assumption = [], f"video seconds counted at {counted} fps"
    delivered = frames_out(frames, between)
    if between:
        others.append(delivered / counted)
        assumption += "; interpolated frames may count too"
    if "counted_fps" not in entry:
        adjust = values.get("adjust_fps_for_interpolation", True)
        others.append(float(delivered / output_fps(values["frames_per_second"], frames, between, adjust)))
        assumption += "; it may be the length of the file"
    return frames / counted, others, assumption


def _charged(entry: Mapping[str, Any]) -> str:
    """Return a warning if earlier jobs were charged more or less than estimated."""
    charged = entry.get("charged")
    if charged is None or abs(charged["ratio"] - 1.0) <= _CHARGE_TOLERANCE:
        return ""
    jobs = "1 job" if charged["jobs"] == 1 else f"{charged['jobs']} jobs"
    return f"; WARNING: your last {jobs} there cost {charged['ratio']:.2f} times the estimate"


def _dollars(usd: float) -> str:
    whole, _, cents = f"{usd:.4f}".partition(".")
    return f"${usd:.2f}" if usd >= 0.1 else f"${whole}.{cents.rstrip('0').ljust(2, '0')}"
