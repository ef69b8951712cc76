"""Estimates how much sooner a run ends on several devices, from measured rates. Arithmetic only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from .expectation import Rates, expect, forward_seconds
from .flops import NetworkSize, tokens_of
from .gpu_layout import EXACTNESS, GpuLayout, busiest_items, shares_of
from .plan import Plan

__all__ = ["GpuExpectation", "expect_on_gpus", "sent_in_forward", "shared_forward_seconds"]

_PATCH = 4  # latent positions of a token


@dataclass(frozen=True)
class GpuExpectation:
    """factor: the time on one device / that on all of them, sampling and decoding together.

    sent_bytes: what the busiest rank sends in a forward. forward_s: of a forward on all ranks that share it.
    They, factor and total_s are None if this machine, or the link between its devices, was not measured.
    """

    devices: int
    layout: GpuLayout
    sent_bytes: int | None
    forward_s: float | None
    total_s: float | None
    factor: float | None

    def text(self) -> str:
        """Return one line of text, which says the class of exactness too."""
        start = f"on {self.devices} devices ({self.layout.text()}), {EXACTNESS} (differs by rounding only): "
        if self.factor is None or self.total_s is None:
            return f"{start}how fast is unknown; measure it with `wan-duet bench --gpus`"
        return f"{start}about {self.factor:.2f} times as fast as one, {self.total_s:.0f} s"

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "layout": self.layout.as_dict(), "exactness": EXACTNESS}


def expect_on_gpus(
    plan: Plan, size: NetworkSize, heads: int, rates: Rates | None, layout: GpuLayout
) -> GpuExpectation:
    """Estimate the time of `plan` on devices of these rates. Decoding counts as on one of them: it is short.

    rates: None if this machine was not measured.
    """
    if rates is None:
        return GpuExpectation(layout.ranks, layout, None, None, None, None)
    tokens, alone = tokens_of(plan.forward_shape), expect(plan, size, rates)
    sent = sent_in_forward(size, heads, tokens, rates.item_bytes, layout.sequence)
    if rates.link is None:
        return GpuExpectation(layout.ranks, layout, sent, None, None, None)
    forward_s = shared_forward_seconds(size, heads, tokens, rates, layout.sequence)
    forwards = plan.forwards // 2 if layout.pair else plan.forwards
    total_s = forwards * forward_s + alone.decode_s
    return GpuExpectation(layout.ranks, layout, sent, forward_s, total_s, alone.total_s / total_s)


def shared_forward_seconds(size: NetworkSize, heads: int, tokens: int, rates: Rates, ranks: int) -> float:
    """Return the seconds of a forward whose tokens `ranks` ranks split: of the busiest one, and its exchange.

    rates.link is known. Computing and exchanging do not overlap.
    """
    assert rates.link is not None  # noqa: S101
    own = shares_of(tokens, ranks)[0]
    computing = forward_seconds(size, own, rates, keys=tokens, head_share=shares_of(heads, ranks)[0] / heads)
    return computing + sent_in_forward(size, heads, tokens, rates.item_bytes, ranks) / rates.link


def sent_in_forward(size: NetworkSize, heads: int, tokens: int, item_bytes: int, ranks: int) -> int:
    """Return the bytes that the busiest rank sends in one forward: around self-attention, and to join."""
    blocks = size.layers * busiest_items(tokens, heads, size.width // heads, ranks)
    joined = shares_of(tokens, ranks)[0] * _PATCH * size.channels_out * (ranks - 1)
    return item_bytes * (blocks + joined)
