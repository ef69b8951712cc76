"""The memory port outside ComfyUI: what stays, when it goes, and how much there is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from wan_duet.pipelines.device.memory import (
    DeviceMemory,
    bytes_free,
    bytes_total,
    give_back_cached,
    total_under_cap,
    under_cap,
)
from wan_duet.pipelines.device.ram import Groups, free_ram, total_ram
from wan_duet.pipelines.errors import RequestError

KIB, GIB = 1024, 2**30


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
    assert free is not None
    assert total is not None
    assert size < free < size + total


def test_a_part_of_a_device_is_all_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda _: 0.25, raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=80 * KIB))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 15 * KIB)
    card = torch.device("cuda", 0)
    assert total_under_cap(card, 80 * KIB) == 20 * KIB
    assert under_cap(card, 60 * KIB) == 5 * KIB
    assert under_cap(card, 60 * KIB, 10 * KIB) == 15 * KIB  # the 10 are among the 15 that are taken
    assert under_cap(card, -KIB, 10 * KIB) == 9 * KIB
    assert under_cap(card, -KIB) == under_cap(torch.device("cpu"), -KIB) == 0
    assert total_under_cap(torch.device("cpu"), 80 * KIB) == 80 * KIB


@pytest.mark.parametrize("name", ["nowhere", "meta", "cuda:99"])
def test_a_device_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(RequestError, match=f"device: {name}"):
        DeviceMemory(name)


def test_a_torch_that_was_built_without_a_device_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def asserts(*_: object, **__: object) -> None:
        raise AssertionError("Torch not compiled with CUDA enabled")  # as torch does it on Windows and macOS

    monkeypatch.setattr(torch, "zeros", asserts)
    with pytest.raises(RequestError, match="Torch not compiled with CUDA enabled"):
        DeviceMemory("cuda")


@pytest.mark.parametrize(
    ("there", "best"),
    [({"cuda", "xpu"}, "cuda"), ({"xpu", "mps"}, "xpu"), ({"mps"}, "mps"), (set(), "cpu")],
)
def test_without_a_word_the_best_device_is_taken(
    monkeypatch: pytest.MonkeyPatch, there: set[str], best: str
) -> None:
    for name, module in (("cuda", torch.cuda), ("xpu", torch.xpu), ("mps", torch.backends.mps)):
        monkeypatch.setattr(module, "is_available", lambda name=name: name in there)
    asked: list[str] = []
    zeros = torch.zeros

    def answer(size: int, *, device: str) -> torch.Tensor:
        asked.append(device)
        return zeros(size)

    monkeypatch.setattr(torch, "zeros", answer)
    assert DeviceMemory().device == torch.device(best)
    assert asked == [best]


@pytest.mark.parametrize("kind", ["cuda", "xpu", "mps"])
def test_cached_blocks_go_back_to_their_own_device(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    emptied: list[str] = []
    for name in ("cuda", "xpu", "mps"):
        monkeypatch.setattr(getattr(torch, name), "empty_cache", lambda name=name: emptied.append(name))
    give_back_cached(torch.device("cpu"))
    assert emptied == []
    give_back_cached(torch.device(kind, 0))
    assert emptied == [kind]


def test_a_card_says_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", None, raising=False)  # before 2.6
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5 * GIB, 24 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 3 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1 * GIB)
    card = torch.device("cuda", 0)
    assert (bytes_free(card), bytes_total(card)) == (7 * GIB, 24 * GIB)


def test_what_metal_recommends_is_all_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    mps = SimpleNamespace(
        recommended_max_memory=lambda: 12 * GIB,
        current_allocated_memory=lambda: 2 * GIB,
        driver_allocated_memory=lambda: 3 * GIB,
    )
    monkeypatch.setattr(torch, "mps", mps)
    device = torch.device("mps")
    assert bytes_total(device, lambda: machine(100, 64)) == 12 * GIB
    assert bytes_free(device, lambda: machine(40, 64)) == 10 * GIB
    assert bytes_free(device, lambda: machine(4, 64)) == 5 * GIB  # others took it; 1 is torch's, for later
    assert bytes_total(device, lambda: machine(4, 8)) == 8 * GIB
    mps.current_allocated_memory = mps.driver_allocated_memory = lambda: 13 * GIB
    assert bytes_free(device, lambda: machine(40, 64)) == 0


def test_an_intel_card_says_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    xpu = SimpleNamespace(
        mem_get_info=lambda device: (5 * GIB, 16 * GIB),
        memory_reserved=lambda device: 3 * GIB,
        memory_allocated=lambda device: 2 * GIB,
        get_device_properties=lambda device: SimpleNamespace(total_memory=16 * GIB),
    )
    monkeypatch.setattr(torch, "xpu", xpu)
    device = torch.device("xpu", 0)
    assert (bytes_free(device), bytes_total(device)) == (6 * GIB, 16 * GIB)
    del xpu.mem_get_info  # torch before 2.6
    assert bytes_free(device) is None


def test_a_device_that_nobody_knows_says_nothing() -> None:
    device = torch.device("privateuseone")
    assert bytes_free(device) is None
    assert bytes_total(device) is None


def machine(available: float, total: float = 64) -> SimpleNamespace:
    """What psutil says on any system, in GiB."""
    return SimpleNamespace(available=int(available * GIB), total=int(total * GIB))


def group(folder: Path, version: int, limit: str, used: int = 0, cached: int = 0) -> None:
    """A control group as Linux shows it, in GiB."""
    folder.mkdir(parents=True, exist_ok=True)
    limit = limit if limit == "max" else str(int(limit) * GIB)
    names = ("memory.max", "memory.current") if version == 2 else V1
    prefix = "" if version == 2 else "total_"
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used * GIB}\n")
    stat = f"anon 5\n{prefix}inactive_file {cached * GIB}\n{prefix}active_file 0\n"
    (folder / "memory.stat").write_text(stat)


V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")
ENDLESS = str((2**63 - 1) // GIB)  # what version 1 says where there is no limit


def groups(folder: Path, own: str) -> Groups:
    """own: what the system says this process is in."""
    (folder / "own").write_text(own)
    return Groups(folder / "own", folder / "mounted")


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("limit", "used", "cached", "free", "total"),
    [
        ("max", 0, 0, 30, 64),
        ("20", 15, 2, 7, 20),
        ("90", 15, 2, 30, 64),
        ("8", 9, 0, 0, 8),
    ],
)
def test_a_container_has_no_more_than_it_is_allowed(
    tmp_path: Path, version: int, limit: str, used: int, cached: int, free: int, total: int
) -> None:
    mounted = tmp_path / "mounted" / ("memory" if version == 1 else "")
    group(mounted, version, ENDLESS if (limit, version) == ("max", 1) else limit, used, cached)
    found = groups(tmp_path, "0::/\n" if version == 2 else "5:cpu,memory:/\n4:pids:/\n")
    assert free_ram(lambda: machine(30), found) == free * GIB
    assert total_ram(lambda: machine(30), found) == total * GIB


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("stat", [None, "", "anon 5\n", "total_inactive_file\n", "inactive_file many\n"])
def test_a_limit_counts_where_the_group_does_not_say_what_is_cached(
    tmp_path: Path, version: int, stat: str | None
) -> None:
    mounted = tmp_path / "mounted" / ("memory" if version == 1 else "")
    group(mounted, version, "20", 15)
    (mounted / "memory.stat").unlink()
    if stat is not None:
        (mounted / "memory.stat").write_text(stat)
    found = groups(tmp_path, "0::/\n" if version == 2 else "5:memory:/\n")
    assert free_ram(lambda: machine(30), found) == 5 * GIB
    assert total_ram(lambda: machine(30), found) == 20 * GIB


@pytest.mark.parametrize("version", [1, 2])
def test_the_tightest_of_the_groups_around_a_process_counts(tmp_path: Path, version: int) -> None:
    mounted = tmp_path / "mounted" / ("memory" if version == 1 else "")
    group(mounted, version, "60", 1)
    group(mounted / "jobs", version, "20", 15)
    group(mounted / "jobs" / "mine", version, "12", 1)
    group(mounted / "jobs" / "other", version, "1", 0)
    found = groups(tmp_path, "0::/jobs/mine\n" if version == 2 else "7:memory:/jobs/mine\n0::/\n")
    assert free_ram(lambda: machine(30), found) == 5 * GIB
    assert total_ram(lambda: machine(30), found) == 12 * GIB


def test_a_container_that_sees_only_its_own_group_is_in_it(tmp_path: Path) -> None:
    """Without a namespace of its own, the system says the path as the host knows it."""
    group(tmp_path / "mounted", 2, "10", 4)
    assert free_ram(lambda: machine(30), groups(tmp_path, "0::/system.slice/docker-1f.scope\n")) == 6 * GIB


def test_where_there_are_no_groups_the_machine_counts(tmp_path: Path) -> None:
    nowhere = Groups(tmp_path / "own", tmp_path / "mounted")
    assert free_ram(lambda: machine(30), nowhere) == 30 * GIB
    assert total_ram(lambda: machine(30), nowhere) == 64 * GIB


def test_there_is_no_more_free_ram_than_ram() -> None:
    assert 0 < free_ram() <= total_ram()
