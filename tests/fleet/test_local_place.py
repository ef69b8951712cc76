"""What a row takes here, and what it needs at least on a GPU of another machine."""

from __future__ import annotations

from typing import Any

import pytest

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.fleet import local_place
from wan_duet.pipelines.fleet.local_place import LocalPlace
from wan_duet.pipelines.fleet.worker import Needs
from wan_duet.pipelines.generate.local_worker import LocalWorker
from wan_duet.pipelines.generate.memory_estimate import MemoryEstimate, estimate_memory
from wan_duet.pipelines.interpolation.found_interpolators import Interpolators
from wan_duet.pipelines.loading.wan_model import load_model
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request import parse
from wan_duet.pipelines.request.report import silent
from wan_duet.pipelines.weights.lora.find import LoraSources


@pytest.fixture
def place() -> LocalPlace:
    model, memory = load_model("toy"), DeviceMemory("cpu")
    return LocalPlace(LocalWorker(model, memory, Silent(), silent, LoraSources(), Interpolators()))


def needs(place: LocalPlace) -> Needs:
    return place.check(parse("text-to-video", {"prompt": "a ball"}))


def test_without_a_gpu_nobody_knows_what_another_one_needs(place: LocalPlace) -> None:
    assert place.memory_bytes is None
    assert needs(place).least_bytes is None


def test_a_gpu_needs_least_with_streamed_weights(place: LocalPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[MemoryEstimate] = []

    def kept(*arguments: Any, **named: Any) -> MemoryEstimate:
        made.append(estimate_memory(*arguments, **named))
        return made[-1]

    monkeypatch.setattr(local_place, "estimate_memory", kept)
    monkeypatch.setattr(LocalPlace, "memory_bytes", 24 << 30)  # the device stays the CPU
    found = needs(place)
    as_here, least = made
    assert (found.memory_bytes, found.least_bytes) == (
        as_here.largest.needed_bytes,
        least.largest.needed_bytes,
    )
    assert as_here.residency is not None
    assert least.residency is not None
    assert least.residency.bytes < as_here.residency.bytes
