"""Estimates the price of a run from published, dated prices, and states the assumptions.

An entry of the table may also hold what earlier jobs cost and took (`remote/experience.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .base import WanRequest
from .field_rows import media_named
from .image_size import pixels
from .media_facts import ClipLength
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


def estimate(
    request: WanRequest,
    runner: str,
    prices: PriceTable = PRICES,
    lengths: Mapping[str, ClipLength] = MappingProxyType({}),
) -> Price:
    """Estimate the price of `request` on `runner`. Unknown for a request of another provider.

    lengths: of the input files, by their fields; where the price depends on one that is missing, it is
             unknown.
    """
    if runner == "local":
        return Price(0.0, 0.0, 0.0, "your own machine")
    entry = prices.get(request.endpoint)
    if entry is None or "usd" not in entry or request.provider != runner:
        return _unknown(f"{runner} has no published price for {request.kind}")
    values = request.model_dump()
    usd = entry["usd"] if "by" not in entry else entry["usd"].get(values[entry["by"]])
    if usd is None:
        return _unknown(f"no price is published for {values[entry['by']]}")
    deciding = _deciding_inputs(entry, values)
    if missing := [name for name in deciding if name not in lengths]:
        return _unknown(f"it depends on the length of {', '.join(missing)}, which is not known here")
    if entry["unit"] == "video_second" and "num_frames" not in values and not deciding:
        return _unknown("the provider decides the length")
    likely, others, assumption = _counts(entry, values, [lengths[name] for name in deciding])
    amounts = [usd * count for count in (likely, *others)]
    if "other_usd" in entry:
        amounts.append(entry["other_usd"] * likely)
        assumption += (
            f"; another source says {_dollars(entry['other_usd'])} a {entry['unit'].rpartition('_')[2]}"
        )
    assumption += _charged(entry)
    return Price(amounts[0], min(amounts), max(amounts), assumption, entry["source"], entry["as_of"])


def _unknown(why: str) -> Price:
    return Price(None, None, None, why)


def _deciding_inputs(entry: Mapping[str, Any], values: Mapping[str, Any]) -> list[str]:
    """Return the input files whose length decides the price, as `media_named` names them."""
    if field := entry.get("billed_inputs"):
        return list(media_named({field: values[field]}))
    follows = "num_frames" not in values or values.get("match_input_num_frames")
    has_video = entry["unit"] == "video_second" and values.get("video_url") is not None
    return ["video_url"] if has_video and follows else []


def _counts(
    entry: Mapping[str, Any], values: Mapping[str, Any], inputs: Sequence[ClipLength]
) -> tuple[float, list[float], str]:
    """Return the likely number of units, other possible numbers, and the assumption.

    inputs: the lengths that decide it.
    """
    if entry["unit"] == "step":
        steps = max(values["number_of_steps"], entry.get("least", 0))
        return steps, [], f"{steps} steps"
    if entry["unit"] == "second":
        seconds = float(values["duration"]) + sum(clip.seconds for clip in inputs)
        both = " and of its reference videos" if "billed_inputs" in entry else ""
        return seconds, [], f"seconds of the result{both}"
    if entry["unit"] == "video":
        return 1, [], "one price for a video of any length"
    if entry["unit"] == "image":
        if values.get("image_size") is None:
            return 1, [], "per image; it may be per megapixel, and the size depends on the input"
        return 1, [prod(pixels(values["image_size"])) / 1e6], "per image; it may be per megapixel"
    frames: int = inputs[0].frames if inputs else values["num_frames"]
    between: int = values.get("num_interpolated_frames") or 0
    if values.get("interpolator_model") == "none":
        between = 0
    counted: int = entry.get("counted_fps", 16)
    others = [inputs[0].seconds] if inputs else []
    length = f"{frames} frames of the input" if inputs else "video seconds"
    assumption = f"{length} counted at {counted} fps" + ("; it may be its seconds" if inputs else "")
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
