"""Estimates how long a run takes on this machine, from measured rates. Arithmetic only; nothing is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from .flops import SIZES, NetworkSize, forward_flops, tokens_of
from .plan import Plan

__all__ = [
    "Expectation",
    "Rates",
    "Work",
    "expect",
    "expect_all",
    "forward_seconds",
    "rates_of_work",
    "read_rates",
    "unmeasured",
    "write_rates",
]

Work = Mapping[str | None, float]
"""{way of `stored_products`: the multiplications that it computes, as a share of those of all layers}.

None stands for the dtype of the run. LoRAs beside layers come on top, so the sum may exceed 1.
"""

_PASSES = {"triton": 19, "kitchen": 28, "plain": 44}
"""{kernels: reads and writes of the whole hidden state per block}, counted by `bench/suite.py --only C7`."""

# FLOP per pixel of decoding, by torch's counter on full-size networks: 275.4 TFLOP for 832x480, 81 frames
# with the VAE of Wan 2.1, and 2011.1 TFLOP for 1280x704, 121 frames with that of Wan 2.2.
_DECODE_FLOPS = {"2.1": 275.4e12 / (832 * 480 * 81), "2.2": 2011.1e12 / (1280 * 704 * 121)}
_DECODE_SHARE = 0.42  # convolutions reach this share of the matrix rate: 0.95 s for the first on an H200


@dataclass(frozen=True)
class Rates:
    """The measured rates of a device, in the dtype that runs on it use.

    products, attention: FLOP/s.
    copies:              bytes/s, reads and writes together.
    kernels:             the element-wise kernels, as in `FloatChoices`.
    link:                bytes/s that each of several devices sends to the others; None if not measured.
    stored:              FLOP/s of products on stored numbers by way, quantising the tokens included.
    layers:              FLOP/s of the layers of the experts of one model; None if they are `products`.
    watts:               power of the device while it multiplies; None where it does not say.
    """

    device: str
    dtype: str
    item_bytes: int
    products: float
    attention: float
    copies: float
    kernels: str
    measured_on: str
    link: float | None = None
    stored: Mapping[str, float] = field(default_factory=dict)
    layers: float | None = None
    watts: float | None = None


@dataclass(frozen=True)
class Expectation:
    """The estimated times of a run, in seconds.

    Encoding the prompt, loading the weights and writing the file are not included.
    """

    device: str
    forwards: int
    forward_s: float
    decode_s: float

    @property
    def total_s(self) -> float:
        return self.forwards * self.forward_s + self.decode_s

    def text(self) -> str:
        return (
            f"expected on {self.device}: about {_about(self.total_s)}, {self.forwards} forwards of "
            f"{_about(self.forward_s)} and {_about(self.decode_s)} of decoding; loading and encoding on top"
        )

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "total_s": self.total_s}


def expect(plan: Plan, size: NetworkSize, rates: Rates) -> Expectation:
    """Estimate the time of `plan`.

    size: of the experts. For a size that no published model has, decoding counts as 0 s.
    """
    tokens = tokens_of(plan.forward_shape)
    forward_s = forward_seconds(size, tokens, rates)
    pixels = plan.width * plan.height * (4 * plan.latent_shape[1] - 3)
    decode = _DECODE_FLOPS["2.2" if plan.latent_shape[0] == 48 else "2.1"] * pixels
    if size not in SIZES.values():
        decode = 0.0
    return Expectation(rates.device, plan.forwards, forward_s, decode / (rates.products * _DECODE_SHARE))


def forward_seconds(
    size: NetworkSize, tokens: int, rates: Rates, keys: int | None = None, head_share: float = 1.0
) -> float:
    """Return the seconds of one forward of `tokens` tokens.

    keys, head_share: for one of several devices that split the tokens: the tokens of all of them, and the
                      part of the heads that it computes. None if it has all.
    """
    flops = forward_flops(size, tokens)
    attention = flops.attention
    if keys is not None:
        attention += 4.0 * size.layers * size.width * (keys * keys * head_share - tokens * tokens)
    passes = size.layers * _PASSES.get(rates.kernels, _PASSES["plain"])
    moved = passes * tokens * size.width * rates.item_bytes
    return (
        flops.products / (rates.layers or rates.products) + attention / rates.attention + moved / rates.copies
    )


def expect_all(plans: Sequence[Plan], size: NetworkSize, rates: Rates) -> Expectation:
    """Estimate the time of `plans` together, one after another on experts of one size."""
    each = [expect(plan, size, rates) for plan in plans]
    forwards = sum(one.forwards for one in each)
    sampling_s = sum(one.forwards * one.forward_s for one in each)
    decode_s = sum(one.decode_s for one in each)
    return Expectation(rates.device, forwards, sampling_s / forwards if forwards else 0.0, decode_s)


def unmeasured(rates: Rates, work: Work) -> tuple[str, ...]:
    """Return the ways of `work` whose rates are not known."""
    return tuple(way for way in work if way is not None and way not in rates.stored)


def rates_of_work(rates: Rates, work: Work) -> Rates:
    """Return the rates for a model whose layers compute as `work` says. All ways are measured."""
    if not work:
        return rates
    seconds = sum(
        share / (rates.products if way is None else rates.stored[way]) for way, share in work.items()
    )
    return replace(rates, layers=1 / seconds)


def read_rates(file: Path) -> Rates | None:
    """Return the rates measured on this machine. None without a readable file of this version."""
    try:
        content: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return Rates(**content)
    except (OSError, ValueError, TypeError):
        return None


def write_rates(file: Path, rates: Rates) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(asdict(rates), indent=1) + "\n", encoding="utf-8")


def _about(seconds: float) -> str:
    if seconds >= 7200:
        return f"{seconds / 3600:.3g} h"
    if seconds >= 120:
        return f"{seconds / 60:.3g} min"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
