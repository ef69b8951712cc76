"""Weights come unit by unit: the same bits whatever the way, and nothing left behind however a run ends."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from experts import (
    CPU,
    UNITS,
    inputs,
    plain_forward,
    recipe_of,
    resident,
    run_all,
    write_experts,
)
from torch import Tensor
from virtual_clock import LAYERS, stall

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.errors import ModelError
from wan_duet.pipelines.streaming.executor import Executor
from wan_duet.pipelines.streaming.transfer import DeviceTransfer, FileTransfer
from wan_duet.pipelines.weights.pinned_staging import StagedFiles, Staging
from wan_duet.pipelines.weights.recipe import DTypeRule, Recipe, TensorRecipe

TWO_STAGES = ("high", "high", "high", "low", "low")
RESIDENCIES = ("ring:1", "ring:2", "ring:5", "ring:99", "resident", "auto")
LORAS = {"head": 0.5, "blocks_0": -1.0, "blocks_1": 0.3, "tail": 0.7}


class TransferOnCpu(DeviceTransfer):
    """Slots and staging as for a device with its own memory, in main memory."""

    def __init__(self, device: torch.device, dtype_of: DTypeRule, slots: int, slot_bytes: int) -> None:
        super().__init__(device, dtype_of, slots, slot_bytes, staging=Staging(chunk_bytes=1000, chunks=3))


TRANSFER_MAKERS = {
    "files": lambda device, dtype_of, *_: FileTransfer(device, dtype_of),
    "a link": TransferOnCpu,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_experts(tmp_path_factory.mktemp("experts"))


def both(folder: Path, **strengths: float) -> dict[str, Recipe]:
    return {name: recipe_of(folder, name, **strengths) for name in ("high", "low")}


def prefetch_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "wan-duet weights"]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Any:
    yield
    assert prefetch_threads() == []


@dataclass(frozen=True)
class Stock:
    """Two experts, and {(expert, dtype): the velocity of a network that is loaded as a whole}."""

    recipes: Mapping[str, Recipe]
    velocities: Mapping[tuple[str, torch.dtype], Tensor]


@pytest.fixture(scope="module", params=[{}, LORAS], ids=["plain", "loras"])
def stock(folder: Path, request: pytest.FixtureRequest) -> Stock:
    recipes = both(folder, **request.param)
    velocities = {
        (name, dtype): plain_forward(recipe, dtype, *inputs())
        for name, recipe in recipes.items()
        for dtype in (torch.float32, torch.bfloat16)
    }
    return Stock(recipes, velocities)


@pytest.mark.parametrize("transfer", TRANSFER_MAKERS)
@pytest.mark.parametrize("wanted", RESIDENCIES)
def test_any_number_of_slots_gives_the_same_bits(stock: Stock, wanted: str, transfer: str) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        expected = {name: stock.velocities[name, dtype] for name in stock.recipes}
        make_transfer = TRANSFER_MAKERS[transfer]
        made = run_all(stock.recipes, TWO_STAGES, dtype, wanted=wanted, make_transfer=make_transfer)
        assert all(torch.equal(out, expected[name]) for out, name in zip(made, TWO_STAGES, strict=True))
        assert not torch.equal(expected["high"], expected["low"])


@pytest.mark.parametrize(
    "foreseen",
    [(), ("high",), ("high", "high", "high", "high", "high", "low", "low", "low"), ("low", "low", "high")],
    ids=["none", "too few", "too many", "in another order"],
)
def test_forwards_that_were_not_foreseen_are_made_all_the_same(
    folder: Path, foreseen: tuple[str, ...]
) -> None:
    recipes = both(folder)
    forwards = tuple(name for name in TWO_STAGES if not foreseen or name in foreseen)
    expected = run_all(recipes, forwards, wanted="resident")
    for wanted in ("ring:2", "resident"):
        made = run_all(recipes, forwards, wanted=wanted, foreseen=foreseen)
        assert all(torch.equal(one, other) for one, other in zip(made, expected, strict=True))


def test_a_block_may_be_computed_in_another_way(folder: Path) -> None:
    seen: list[bool] = []

    def forward(block: torch.nn.Module, hidden: Tensor, *others: Tensor) -> Tensor:
        seen.append(all(not parameter.is_meta for parameter in block.parameters()))
        return block(hidden, *others) + 1

    plain = run_all(both(folder), ("high", "low"))
    changed = run_all(both(folder), ("high", "low"), wanted="ring:2", block_forward=forward)
    assert seen == [True] * 6
    assert not torch.equal(plain[0], changed[0])


class Watched(FileTransfer):
    """Notes what is filled, and how many units are alive when it is."""

    def __init__(self) -> None:
        super().__init__(CPU, lambda _: torch.float32)
        self.filled: list[str] = []

    def fill(
        self, slot: int, tensors: Mapping[str, TensorRecipe], after: Any, check: Callable[[], None]
    ) -> tuple[dict[str, Tensor], Any]:
        assert torch.is_inference_mode_enabled()
        assert threading.current_thread() in prefetch_threads()
        self.filled.append(next(iter(tensors)))
        return super().fill(slot, tensors, after, check)


def test_an_expert_that_no_forward_needs_is_never_read(folder: Path, tmp_path: Path) -> None:
    recipes = {"high": recipe_of(folder), "low": recipe_of(folder, "low")}
    transfer = Watched()
    run_all(recipes, ("low", "low"), make_transfer=lambda *_: transfer)
    assert len(transfer.filled) == len(UNITS) - 1  # the tail comes with the last block


def parameters() -> list[torch.nn.Parameter]:
    """Those in memory, without a garbage collection that would help."""
    return [p for p in gc.get_objects() if type(p) is torch.nn.Parameter and not p.is_meta]


def test_a_run_of_one_slot_never_holds_two_units(folder: Path) -> None:
    recipes, most = both(folder), 0

    def count(block: torch.nn.Module, *arguments: Tensor) -> Tensor:
        nonlocal most
        own = {id(parameter) for parameter in block.parameters()}
        most = max(most, sum(p.numel() for p in parameters() if id(p) not in own))
        return block(*arguments)

    before = sum(p.numel() for p in parameters())
    run_all(recipes, ("high", "low"), wanted="ring:1", block_forward=count)
    tail = sum(
        item.elements
        for name, item in recipes["high"].tensors.items()
        if name.startswith(("proj_out", "scale_shift_table"))
    )
    assert most - before == tail


class Broken(FileTransfer):
    """The third unit cannot be filled."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(CPU, lambda _: torch.float32)
        self._left, self._error = 2, error

    def fill(self, *arguments: Any) -> Any:
        if not self._left:
            raise self._error
        self._left -= 1
        return super().fill(*arguments)


@pytest.mark.parametrize("error", [ModelError("a.safetensors: gone"), MemoryError(), RuntimeError("CUDA")])
def test_what_goes_wrong_in_the_reader_reaches_the_user(folder: Path, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        run_all(both(folder), TWO_STAGES, wanted="ring:2", make_transfer=lambda *_: Broken(error))
    assert caught.value is error


def test_a_file_that_goes_away_during_a_run_is_named(tmp_path: Path) -> None:
    write_experts(tmp_path)
    recipes, left = both(tmp_path), 4

    def lose_the_file(block: torch.nn.Module, *arguments: Tensor) -> Tensor:
        nonlocal left
        left -= 1
        if not left:
            (tmp_path / "low.safetensors").unlink()
        return block(*arguments)

    with pytest.raises(ModelError, match=r"low\.safetensors"):
        run_all(recipes, ("high", "high", "low"), wanted="ring:1", block_forward=lose_the_file)


class Stop(BaseException):
    """As ComfyUI's own: not an Exception."""


@pytest.mark.parametrize("after", range(0, 20, 3))
@pytest.mark.parametrize("wanted", ["ring:1", "ring:3", "resident"])
def test_a_stop_at_any_unit_leaves_no_thread_and_no_memory(folder: Path, after: int, wanted: str) -> None:
    asked, memory = 0, DeviceMemory("cpu", keeps=True)
    before = parameters()  # of models that other tests share

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked > after:
            raise Stop

    with pytest.raises(Stop):
        run_all(both(folder), TWO_STAGES, wanted=wanted, memory=memory, check=check)
    assert prefetch_threads() == []
    assert memory.take() is None
    known = {id(parameter) for parameter in before}
    assert [parameter for parameter in parameters() if id(parameter) not in known] == []


def test_a_stop_is_heard_while_a_unit_is_waited_for(folder: Path) -> None:
    given_up = threading.Event()

    class Slow(FileTransfer):
        def fill(self, slot: int, tensors: Any, after: Any, check: Callable[[], None]) -> Any:
            try:
                while True:
                    check()
                    given_up.wait(0.005)
            finally:
                given_up.set()

    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked > 2:
            raise Stop

    with pytest.raises(Stop):
        run_all(
            both(folder), ("high",), make_transfer=lambda *_: Slow(CPU, lambda _: torch.float32), check=check
        )
    assert given_up.is_set()


def test_after_the_run_an_expert_says_that_it_is_gone(folder: Path) -> None:
    latents, condition = inputs()
    with torch.inference_mode():
        recipes = both(folder)
        with Executor(
            recipes, torch.float32, DeviceMemory("cpu"), lambda: None, residency=resident(recipes)
        ) as experts:
            held = experts.use("high")
            held.predict(latents, 500.0, condition)
        with pytest.raises(ModelError, match="its weights were unloaded"):
            held.predict(latents, 500.0, condition)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.pop("proj_out.bias"), "has no tensor for proj_out.bias"),
        (lambda t: t.update(more=t["proj_out.bias"]), "does not have: more"),
        (lambda t: t.update({"proj_out.bias": t["proj_out.weight"]}), "proj_out.bias has shape"),
    ],
)
def test_a_recipe_that_does_not_fit_the_network_is_refused(
    folder: Path, spoil: Callable[[dict[str, TensorRecipe]], object], message: str
) -> None:
    recipe = recipe_of(folder)
    tensors = dict(recipe.tensors)
    spoil(tensors)
    spoilt, transfer = Recipe(recipe.config, tensors), Watched()
    for recipes in ({"high": spoilt}, {"high": recipe, "low": spoilt}):
        with pytest.raises(ModelError, match=message):
            run_all(recipes, tuple(recipes), make_transfer=lambda *_: transfer)
    assert transfer.filled == []


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recipe]:
    folder = write_experts(tmp_path_factory.mktemp("deep"), LAYERS)
    return {name: recipe_of(folder, name, LAYERS) for name in ("high", "low")}


@pytest.mark.parametrize(
    ("wanted", "link_share"),
    [("ring:2", 0.24), ("ring:3", 0.24), ("ring:3", 0.8), ("ring:9", 0.8), ("auto", 0.8), ("resident", 0.8)],
)
def test_a_link_faster_than_the_forward_costs_two_percent_at_most_with_the_switch(
    deep: dict[str, Recipe], wanted: str, link_share: float
) -> None:
    """0.24 is a bf16 expert over PCIe 5 by a forward of an H200 at 480p and 81 frames."""
    assert stall(deep, wanted, link_share) <= 0.02


def test_without_a_slot_ahead_every_unit_is_waited_for(deep: dict[str, Recipe]) -> None:
    assert stall(deep, "ring:1", 0.24) > 0.2


def test_bytes_pass_a_small_staging_ring_unchanged(tmp_path: Path) -> None:
    staging, generator = Staging(64, 2), torch.Generator().manual_seed(0)
    for size in (1, 63, 64, 65, 1000):
        sent = torch.randint(0, 256, (size,), dtype=torch.uint8, generator=generator)
        arrived = torch.zeros(size, dtype=torch.uint8)
        staging.send(sent, arrived)
        assert torch.equal(arrived, sent)
    file = tmp_path / "bytes"
    file.write_bytes(bytes(range(200)))
    raw = StagedFiles(CPU, staging).raw(file, 3, 150)
    assert raw.tolist() == list(range(3, 153))
