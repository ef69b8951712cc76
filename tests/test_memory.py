"""The memory port outside ComfyUI: what stays, when it goes, and how much there is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.memory import DeviceMemory, total_under_cap, under_cap
from wan_duet.pipelines.ram import free_ram, total_ram

KIB = 1024


@dataclass
class Weights:
    """Something that may stay. `closed` counts how often it was told to go."""

    size_bytes: int = 8 * KIB
    closed: int = 0

    def close(self) -> None:
        self.closed += 1


def test_nothing_stays_unless_asked_for() -> None:
    memory, weights = DeviceMemory("cpu"), Weights()
    memory.keep(weights)
    assert weights.closed == 1
    assert memory.take() is None


def test_what_stays_can_be_taken_once() -> None:
    memory, weights = DeviceMemory("cpu", keeps=True), Weights()
    memory.keep(weights)
    assert memory.take() is weights
    assert memory.take() is None
    assert weights.closed == 0


def test_what_stays_is_closed_when_its_room_is_needed_and_not_before() -> None:
    memory, weights = DeviceMemory("cpu", keeps=True), Weights()
    memory.keep(weights)
    memory.reserve(1, "VAE")
    assert weights.closed == 0
    memory.reserve(1, "VAE", working_bytes=2**60)
    assert weights.closed == 1
    assert memory.take() is None


def test_only_one_network_stays() -> None:
    memory, first, second = DeviceMemory("cpu", keeps=True), Weights(), Weights()
    memory.keep(first)
    memory.keep(second)
    assert (first.closed, second.closed) == (1, 0)


def test_what_stays_counts_as_room_that_can_be_had() -> None:
    memory, size = DeviceMemory("cpu", keeps=True), 2**50
    memory.keep(Weights(size))
    free, total = memory.free_bytes(), memory.total_bytes()
    if free is not None:  # only Linux says
        assert total is not None
        assert size < free < size + total


def test_a_part_of_a_device_is_all_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda _: 0.25, raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=80 * KIB))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 15 * KIB)
    card = torch.device("cuda", 0)
    assert total_under_cap(card, 80 * KIB) == 20 * KIB
    assert under_cap(card, 60 * KIB) == 5 * KIB
    assert total_under_cap(torch.device("cpu"), 80 * KIB) == 80 * KIB


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(RequestError, match="device: nowhere"):
        DeviceMemory("nowhere")


def test_free_ram_counts_cached_files(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  4000 kB\nMemFree:  100 kB\nMemAvailable:  3000 kB\n")
    assert free_ram(meminfo, tmp_path) == 3000 * KIB


@pytest.mark.parametrize(
    ("limit", "current", "expected"),
    [("max", 0, 3000), (2000 * KIB, 1500 * KIB, 700), (9000 * KIB, 1500 * KIB, 3000), (100, 900 * KIB, 0)],
)
def test_a_container_has_no_more_than_it_is_allowed(
    tmp_path: Path, limit: str | int, current: int, expected: int
) -> None:
    (tmp_path / "meminfo").write_text("MemAvailable:  3000 kB\n")
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text(f"{current}\n")
    cached = 200 * KIB
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\nactive_file 0\n")
    assert free_ram(tmp_path / "meminfo", tmp_path) == expected * KIB


@pytest.mark.parametrize("content", [None, "", "MemFree: 1 kB\n"])
def test_a_system_that_is_silent_is_unknown(tmp_path: Path, content: str | None) -> None:
    meminfo = tmp_path / "meminfo"
    if content is not None:
        meminfo.write_text(content)
    assert free_ram(meminfo, tmp_path) is None


def test_there_is_no_more_free_ram_than_ram() -> None:
    free, total = free_ram(), total_ram()
    if free is not None:
        assert total is not None
        assert 0 < free <= total
