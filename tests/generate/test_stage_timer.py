"""Seconds and joules of a run."""

from __future__ import annotations

import pytest
import torch

from wan_duet.pipelines.device import energy
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


@pytest.mark.parametrize(("second", "joules"), [(3.5, 5.5), (None, None)])
def test_the_joules_of_several_devices_are_added_if_all_count(
    monkeypatch: pytest.MonkeyPatch, second: float | None, joules: float | None
) -> None:
    used = {0: 2.0, 1: second}
    monkeypatch.setattr(energy, "joules_used", lambda device: used[device.index])
    devices = [torch.device("cuda", number) for number in (0, 1, 1)]  # two ranks share the second one
    assert StageTimer.of(devices).joules() == joules
