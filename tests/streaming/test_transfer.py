"""The order of a device's queues, and how many threads touch it, on fakes that refuse what a device would."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from experts import CPU, inputs, plain_forward, recipe_of, run_all, write_experts
from fake_streams import FakeStreams
from torch import Tensor

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.streaming.transfer import DeviceTransfer, FileTransfer, transfer_for
from wan_duet.pipelines.weights.pinned_staging import Staging
from wan_duet.pipelines.weights.recipe import DTypeRule, Recipe, TensorRecipe
from wan_duet.pipelines.weights.stored_tensors import Files

FORWARDS = ("high", "high", "low", "low")


class OrderedTransfer(DeviceTransfer):
    """Refuses to read a tensor before it is loaded, and to fill a slot before its last use has finished."""

    def __init__(self, device: torch.device, dtype_of: DTypeRule, slots: int, slot_bytes: int) -> None:
        self.streams = FakeStreams()
        self.staging = Staging(chunk_bytes=256, chunks=2, streams=self.streams)
        super().__init__(device, dtype_of, slots, slot_bytes, streams=self.streams, staging=self.staging)
        self.filled_at: dict[int, int] = {}  # by address
        self.used_at: dict[int, int] = {}
        self.fills = 0

    def _device_files(self) -> Files:
        """What is computed on the way is so at once: of a fake stream, copies alone come late."""
        return Files(self._device)

    def fill(
        self, slot: int, tensors: Mapping[str, TensorRecipe], after: Any, check: Callable[[], None]
    ) -> tuple[dict[str, Tensor], Any]:
        step = self.streams.side.work()
        made, event = super().fill(slot, tensors, after, check)
        first = self._slots[slot].data_ptr()
        used = self.used_at.get(first, 0)
        assert self.streams.side.known.get("computing", 0) >= used, "a slot is filled before its last use"
        for tensor in made.values():
            self.filled_at[tensor.data_ptr()] = step
        self.fills += 1
        return made, event

    def compute(self, block: torch.nn.Module, *arguments: Tensor) -> Tensor:
        step, known = self.streams.main.work(), self.streams.main.known.get("filling", 0)
        for parameter in block.parameters():
            assert known >= self.filled_at[parameter.data_ptr()], "weights are read before they are there"
            for buffer in self._slots:
                if 0 <= parameter.data_ptr() - buffer.data_ptr() < buffer.nbytes:
                    self.used_at[buffer.data_ptr()] = step
        result: Tensor = block(*arguments)
        return result


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recipe]:
    folder: Path = write_experts(tmp_path_factory.mktemp("experts"))
    return {name: recipe_of(folder, name, blocks_0=0.5) for name in ("high", "low")}


def expected(pair: Mapping[str, Recipe], dtype: torch.dtype) -> list[Tensor]:
    made = {name: plain_forward(recipe, dtype, *inputs()) for name, recipe in pair.items()}
    return [made[name] for name in FORWARDS]


@pytest.mark.parametrize("wanted", ["ring:1", "ring:2", "ring:3", "resident"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_queue_reads_or_writes_before_its_event(
    pair: dict[str, Recipe], wanted: str, dtype: torch.dtype
) -> None:
    transfers: list[OrderedTransfer] = []

    def make(*arguments: Any) -> OrderedTransfer:
        transfers.append(OrderedTransfer(*arguments))
        return transfers[0]

    def compute(block: torch.nn.Module, *arguments: Tensor) -> Tensor:
        return transfers[0].compute(block, *arguments)

    made = run_all(pair, FORWARDS, dtype, wanted=wanted, make_transfer=make, block_forward=compute)
    assert transfers[0].fills > 0
    assert all(torch.equal(*both) for both in zip(made, expected(pair, dtype), strict=True))


def test_a_chunk_is_not_written_again_before_it_was_copied_from() -> None:
    streams = FakeStreams()
    staging, generator = Staging(64, 2, streams=streams), torch.Generator().manual_seed(0)
    sent = torch.randint(0, 256, (1000,), dtype=torch.uint8, generator=generator)
    arrived = torch.zeros(1000, dtype=torch.uint8)
    staging.send(sent, arrived)
    assert not torch.equal(arrived, sent)  # its end is still on the way
    streams.current().synchronize()
    assert torch.equal(arrived, sent)


def test_when_a_run_begins_each_queue_waits_for_what_the_other_did_before() -> None:
    transfer = OrderedTransfer(CPU, lambda _: torch.float32, 1, 256)
    main, side = transfer.streams.main, transfer.streams.side
    computed, filled = main.work(), side.work()
    transfer.open()
    assert side.known["computing"] >= computed
    assert main.known["filling"] >= filled


def test_when_a_run_is_over_nothing_is_on_its_way() -> None:
    transfer = OrderedTransfer(CPU, lambda _: torch.float32, 1, 256)
    source, target = torch.ones(4), torch.zeros(4)
    with transfer.streams.on(transfer.streams.side):
        transfer.streams.copy(target, source)
    transfer.finish()
    assert torch.equal(target, source)


@pytest.mark.parametrize("keeps", [True, False])
def test_page_locked_memory_is_given_back_when_a_run_is_over(pair: dict[str, Recipe], keeps: bool) -> None:
    transfers: list[OrderedTransfer] = []
    held: list[int] = []

    def make(*arguments: Any) -> OrderedTransfer:
        transfers.append(OrderedTransfer(*arguments))
        return transfers[-1]

    def compute(block: torch.nn.Module, *arguments: Tensor) -> Tensor:
        held.append(transfers[-1].staging.held_bytes)
        return transfers[-1].compute(block, *arguments)

    memory = DeviceMemory("cpu", keeps=keeps)
    for run in (1, 2):  # a second one takes it anew, and only if it has anything to load
        run_all(
            pair, FORWARDS, torch.bfloat16, wanted="ring:3", memory=memory, make_transfer=make,
            block_forward=compute,
        )  # fmt: skip
        assert max(held) == 2 * 256
        assert transfers[-1].staging.held_bytes == 0
        assert transfers[-1].streams.given_back == (run if keeps else 1)
    assert len(transfers) == (1 if keeps else 2)


class OneThread:
    """A device that a second thread may not touch."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None

    def touched(self) -> None:
        self._thread = self._thread or threading.current_thread()
        if threading.current_thread() is not self._thread:
            raise AssertionError(f"a second thread, {threading.current_thread().name}, touches the device")


class TouchingTransfer(DeviceTransfer):
    """A transfer without streams, to a device that counts threads."""

    def __init__(self, touched: Callable[[], None], *arguments: Any) -> None:
        super().__init__(*arguments)
        self._touched = touched

    def _copy(self, item: TensorRecipe, target: Tensor) -> None:
        self._touched()
        super()._copy(item, target)


@pytest.mark.parametrize("wanted", ["ring:1", "ring:2", "ring:3", "resident", "auto"])
@pytest.mark.parametrize("foreseen", [None, (), ("high",), ("low", "high", "low")])
def test_without_streams_one_thread_fills_and_computes(
    pair: dict[str, Recipe], wanted: str, foreseen: tuple[str, ...] | None
) -> None:
    device = OneThread()

    def compute(block: torch.nn.Module, *arguments: Tensor) -> Tensor:
        device.touched()
        result: Tensor = block(*arguments)
        return result

    used = pair if foreseen in (None, ()) else {name: pair[name] for name in foreseen}
    forwards = tuple(name for name in FORWARDS if name in used)
    made = run_all(
        pair, forwards, wanted=wanted, foreseen=foreseen, block_forward=compute,
        make_transfer=lambda *arguments: TouchingTransfer(device.touched, *arguments),
    )  # fmt: skip
    plain = {name: plain_forward(recipe, torch.float32, *inputs()) for name, recipe in pair.items()}
    assert all(torch.equal(out, plain[name]) for out, name in zip(made, forwards, strict=True))


def test_the_fake_device_refuses_a_second_thread(pair: dict[str, Recipe]) -> None:
    device = OneThread()
    device.touched()

    class Eager(TouchingTransfer):
        two_threads = True

    with pytest.raises(AssertionError, match="a second thread, wan-duet weights"):
        run_all(pair, FORWARDS, make_transfer=lambda *arguments: Eager(device.touched, *arguments))


def test_a_stop_is_heard_between_two_tensors_that_the_using_thread_brings(pair: dict[str, Recipe]) -> None:
    class Stop(BaseException):
        pass

    def check() -> None:
        raise Stop

    with pytest.raises(Stop):
        run_all(pair, FORWARDS, check=check, make_transfer=DeviceTransfer)


def test_a_second_thread_fills_on_a_cpu_and_beside_streams_alone() -> None:
    def rule(name: str) -> torch.dtype:
        del name
        return torch.float32

    made = transfer_for(CPU, rule, 2, 256)
    assert isinstance(made, FileTransfer)
    assert made.two_threads
    elsewhere = transfer_for(torch.device("meta"), rule, 2, 256)
    assert isinstance(elsewhere, DeviceTransfer)
    assert not elsewhere.two_threads
    assert OrderedTransfer(CPU, rule, 2, 256).two_threads
