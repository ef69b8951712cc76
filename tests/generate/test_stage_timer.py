"""Seconds and joules of a run."""

from __future__ import annotations

from wan_duet.pipelines.generate.result import StageTimer


def test_energy_counts_from_the_making_of_the_timer() -> None:
    counter = iter([1000.0, 1250.04])
    timer = StageTimer(joules=lambda: next(counter))
    with timer.stage("video"):
        pass
    record = timer.record()
    assert record["energy_j"] == 250.0
    assert list(record["timings_s"]) == ["video"]


def test_a_device_that_does_not_count_has_no_entry() -> None:
    counter = iter([1000.0, None])
    assert StageTimer(joules=lambda: next(counter)).record() == {"timings_s": {}}
    assert StageTimer().record() == {"timings_s": {}}
