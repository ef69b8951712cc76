"""What is measured of a device, on clocks and queues that need none."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch

from wan_duet.pipelines.kernels.rates import measure_rates, seconds_of


def test_a_rate_is_work_by_time() -> None:
    looks = itertools.count()
    rates = measure_rates(torch.device("meta"), torch.bfloat16, lambda: float(next(looks)))  # each takes 1 s
    assert (rates.device, rates.dtype, rates.item_bytes, rates.kernels) == ("meta", "bfloat16", 2, "plain")
    assert rates.products == 2 * 512 * 1536 * 8960
    assert rates.attention == 4 * 512**2 * 12 * 128
    assert rates.copies == 2 * 512 * 1536 * 2


def test_the_ways_of_stored_products_are_measured_with_quantising() -> None:
    looks = itertools.count()
    rates = measure_rates(torch.device("cpu"), torch.float32, lambda: float(next(looks)))
    ways = {"int8 on a CPU", "fp8 on a CPU", "mxfp8 on a CPU", "nvfp4 on a CPU"}
    assert rates.stored == dict.fromkeys(ways, 2 * 512 * 1536 * 256)
    assert not measure_rates(torch.device("meta"), torch.bfloat16, lambda: float(next(looks))).stored


class Card:
    """A GPU that works while nobody looks, and gets slower by a tenth after a fifth of a second."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.now, self.queued, self.runs = seconds, 0.0, 0, 0

    def work(self) -> None:
        self.queued, self.runs = self.queued + 1, self.runs + 1

    def synchronize(self, device: torch.device) -> None:
        for _ in range(self.queued):
            self.now += self.seconds * (1.0 if self.now < 0.2 else 1.1)
        self.queued = 0


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Card]:
    def make(seconds: float) -> Card:
        made = Card(seconds)
        monkeypatch.setattr(torch.cuda, "synchronize", made.synchronize)
        return made

    return make


@pytest.mark.parametrize("seconds", [0.001, 0.01])
def test_the_rate_of_a_gpu_is_the_one_that_it_holds(card: Callable[[float], Card], seconds: float) -> None:
    made = card(seconds)
    measured = seconds_of(made.work, torch.device("cuda"), lambda: made.now)
    assert measured == pytest.approx(1.1 * seconds, rel=0.03)
    assert made.now < 2.0


def test_long_work_is_not_repeated_more_than_it_takes_to_be_sure(card: Callable[[float], Card]) -> None:
    made = card(3.0)
    assert seconds_of(made.work, torch.device("cuda"), lambda: made.now) == pytest.approx(3.3)
    assert made.runs == 7
