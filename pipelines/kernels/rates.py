"""Measures what a device does: products of matrices, attention, copies. Takes a few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date

import torch

from ..plan.expectation import Rates
from .attention import attend_with
from .choices import Wishes

__all__ = ["measure_rates"]

_WIDTH = 5120  # of the 14B models
_HEAD_WIDTH = 128


def measure_rates(device: torch.device, dtype: torch.dtype) -> Rates:
    """With random numbers: zeros would draw less power and flatter the device."""
    choices = Wishes().granted(device, dtype)
    tokens, heads, width = (32768, 40, _WIDTH) if device.type == "cuda" else (512, 4, 1024)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, device=device, dtype=dtype)

    left, weight = random(tokens, width), random(width, width) * 0.02
    products = 2 * tokens * width**2 / _quickest(lambda: torch.nn.functional.linear(left, weight), device)
    query, key, value = (random(1, tokens, heads, _HEAD_WIDTH) for _ in range(3))
    attend = attend_with(choices.attention)
    attention_flops = 4 * tokens**2 * heads * _HEAD_WIDTH
    attention = attention_flops / _quickest(lambda: attend(query, key, value), device)
    target = torch.empty_like(left)
    copies = 2 * left.nbytes / _quickest(lambda: target.copy_(left), device)
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
    )


@torch.inference_mode()
def _quickest(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of the best of five, after one to warm up."""
    work()
    found = []
    for _ in range(5):
        _wait(device)
        begun = time.perf_counter()
        work()
        _wait(device)
        found.append(time.perf_counter() - begun)
    return min(found)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
