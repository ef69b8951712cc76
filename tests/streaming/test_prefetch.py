"""Waiting for a unit that a thread loads."""

from __future__ import annotations

import time
from typing import Any

from wan_duet.pipelines.streaming.prefetch import Prefetcher
from wan_duet.pipelines.streaming.unit_schedule import Unit, make_unit_schedule


def test_a_waiting_thread_looks_for_a_stop_some_times_a_second_and_sleeps_between() -> None:
    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1

    def fill(*_: Any) -> None:
        time.sleep(1.0)

    prefetcher = Prefetcher(make_unit_schedule([Unit("high", 0)], 1, ()), fill)
    try:
        prefetcher.wait_for(0, check)
    finally:
        prefetcher.close()
    assert 1 <= asked <= 40
