"""Measures the speed of a device: matrix products, attention, copies. Takes a few seconds.

After one second of load a GPU is slower than at the start, by a tenth on an H200, because of its power limit.
The sustained rate is measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date
from typing import get_args

import torch
from torch import Tensor

from ..device.energy import joules_used
from ..plan.expectation import Rates
from .attention import attend_with
from .choices import Preferences
from .stored_products import TOKENS_AT_ONCE, WAYS, Multiply, StoredProduct, choose_way, quantised_matrix

__all__ = ["measure_rates", "seconds_of"]

_HEAD_WIDTH = 128
_HELD_S = 1.0  # how long a GPU is kept busy


def measure_rates(
    device: torch.device, dtype: torch.dtype, clock: Callable[[], float] = time.perf_counter
) -> Rates:
    """Measure with random numbers: zeros need less power, and would be faster."""
    choices = Preferences().resolve(device, dtype)
    # On a GPU the sizes of A14B at 832x480 with 81 frames, elsewhere those of Wan 2.1 1.3B and a small image.
    # Round sizes suit some kernels better, and small ones stay in the cache.
    tokens, heads, width, wide = (32760, 40, 5120, 13824) if device.type == "cuda" else (512, 12, 1536, 8960)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, device=device, dtype=dtype)

    left, weight = random(tokens, width), random(wide, width) * 0.02
    begun, before = clock(), joules_used(device)
    product_flops = 2 * tokens * width * wide
    products = product_flops / seconds_of(lambda: torch.nn.functional.linear(left, weight), device, clock)
    query, key, value = (random(1, tokens, heads, _HEAD_WIDTH) for _ in range(3))
    attend = attend_with(choices.attention, device)
    attention_flops = 4 * tokens**2 * heads * _HEAD_WIDTH
    attention = attention_flops / seconds_of(lambda: attend(query, key, value), device, clock)
    used, took_s = joules_used(device), clock() - begun
    target = torch.empty_like(left)
    copies = 2 * left.nbytes / seconds_of(lambda: target.copy_(left), device, clock)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    return Rates(
        name,
        str(dtype).removeprefix("torch."),
        dtype.itemsize,
        products,
        attention,
        copies,
        choices.kernels,
        date.today().isoformat(),
        stored=_stored_rates(left, weight if device.type == "cuda" else weight[:256], clock),
        watts=None if used is None or before is None else (used - before) / took_s,
    )


@torch.inference_mode()
def _stored_rates(tokens: Tensor, weight: Tensor, clock: Callable[[], float]) -> dict[str, float]:
    """Return FLOP/s of the way in which each product on stored numbers computes here, if it has one."""
    found, device = dict[str, float](), tokens.device
    flops = 2 * len(tokens) * weight.numel()
    for product in get_args(StoredProduct):
        way, _ = choose_way(product, device, tuple(weight.shape))
        if way is None:
            continue
        multiply, parts = WAYS[way].multiply, quantised_matrix(product, weight.float())

        def work(multiply: Multiply = multiply, parts: tuple[Tensor, ...] = parts) -> None:
            for some in torch.split(tokens, TOKENS_AT_ONCE):
                multiply(some.to(torch.float32, copy=True), *parts)

        found[way] = flops / seconds_of(work, device, clock)
    return found


@torch.inference_mode()
def seconds_of(work: Callable[[], object], device: torch.device, clock: Callable[[], float]) -> float:
    """Return the best of five times after one warm-up; on a GPU each is the mean of one second of calls."""
    work()
    found = [_timed(work, device, clock) for _ in range(5)]
    if device.type != "cuda":
        return min(found)
    times = max(1, int(_HELD_S / min(found)))

    def often() -> None:
        for _ in range(times):
            work()

    return _timed(often, device, clock) / times


def _timed(work: Callable[[], object], device: torch.device, clock: Callable[[], float]) -> float:
    _wait(device)
    begun = clock()
    work()
    _wait(device)
    return clock() - begun


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
