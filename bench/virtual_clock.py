"""A run of the executor on a clock of its own: how long it waits for weights, on a link of given speed.

Nothing sleeps, so the figures do not depend on this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from experts import CPU, run_all
from torch import Tensor

from wan_duet.pipelines.streaming.transfer import FileTransfer
from wan_duet.pipelines.weights.recipe import Recipe

__all__ = ["LAYERS", "STEPS", "stall"]

LAYERS, STEPS = 12, ("high",) * 4 + ("low",) * 4


class VirtualClock(FileTransfer):
    """A link and a processor with a clock each, which meet where one waits for the other: marks are times.

    A block computes for one second.
    """

    def __init__(self, load_s: float) -> None:
        super().__init__(CPU, lambda _: torch.float32)
        self.link = self.now = self.stalled = self.busy = 0.0
        self._load_s = load_s

    def fill(self, slot: int, tensors: Any, after: Any, check: Callable[[], None]) -> Any:
        made, _ = super().fill(slot, tensors, after, check)
        self.link = max(self.link, after or 0.0) + self._load_s
        return made, self.link

    def wait(self, ready: float) -> None:
        self.stalled += max(ready - self.now, 0.0)
        self.now = max(self.now, ready)

    def compute(self, block: torch.nn.Module, *arguments: Tensor) -> Tensor:
        self.now, self.busy = self.now + 1, self.busy + 1
        result: Tensor = block(*arguments)
        return result

    def done(self) -> float:
        return self.now


def stall(recipes: Mapping[str, Recipe], wanted: str, link_share: float) -> float:
    """Seconds waited for after the first unit, the switch included, by seconds computed.

    recipes:    of "high" and "low" with LAYERS blocks each.
    wanted:     the residency.
    link_share: of the time that a forward computes, what bringing a whole expert takes.
    """
    load_s = link_share * LAYERS / (LAYERS + 1)
    clock = VirtualClock(load_s)
    run_all(recipes, STEPS, wanted=wanted, make_transfer=lambda *_: clock, block_forward=clock.compute)
    assert clock.busy == LAYERS * len(STEPS)  # noqa: S101
    return (clock.stalled - load_s) / clock.busy
