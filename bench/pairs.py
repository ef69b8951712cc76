"""How the ratios of the suite are taken: one thread, processor time, pairs in alternating order.

Wall time of a busy machine scatters by a half; the ratio of two processor times taken one after the other, by
a few per cent. Of a dozen such pairs the median is reported, with the quartiles around it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Ratio", "ratio_of", "ratios_of"]


@dataclass(frozen=True)
class Ratio:
    median: float
    low: float
    high: float

    def text(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f} to {self.high:.3f})"


def ratio_of(ours: Callable[[], object], theirs: Callable[[], object], pairs: int) -> Ratio:
    """Processor time of `ours` over that of `theirs`, after one run of each."""
    ours(), theirs()
    found = ratios_of(ours, theirs, pairs)
    quartiles = statistics.quantiles(found, n=4)
    return Ratio(statistics.median(found), quartiles[0], quartiles[2])


def ratios_of(ours: Callable[[], object], theirs: Callable[[], object], pairs: int) -> list[float]:
    """As `ratio_of`, one ratio for each pair, and without a run before them."""
    found = []
    for index in range(pairs):
        seconds = {}
        for work in (ours, theirs) if index % 2 else (theirs, ours):
            begun = time.process_time()
            work()
            seconds[work] = time.process_time() - begun
        found.append(seconds[ours] / seconds[theirs])
    return found
