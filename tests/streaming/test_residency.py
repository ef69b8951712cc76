"""How much lies on the device, what stays after a run, and what is made again when a recipe changes."""

from __future__ import annotations

import gc
import operator
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from experts import CHANGED, CPU, UNITS, inputs, plain_forward, recipe_of, residency_of, write_experts
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.errors import ModelError, RequestError
from wan_duet.pipelines.networks.expert import EXPERT, expert_dtypes
from wan_duet.pipelines.streaming.buffer_pool import BufferPool
from wan_duet.pipelines.streaming.executor import Executor, plain_block_forward, unit_sizes
from wan_duet.pipelines.streaming.residency import RING, MemoryBudget, choose_residency
from wan_duet.pipelines.streaming.transfer import FileTransfer
from wan_duet.pipelines.weights.recipe import DTypeRule, Recipe

GIB = 2**30
MOVES = len(UNITS) - 1  # the tail comes with the last block


class Loads(DeviceMemory):
    """A DeviceMemory that writes down what is loaded, and sees to it that nothing lives while it is asked."""

    def __init__(self, *, keeps: bool = True) -> None:
        super().__init__("cpu", keeps=keeps)
        self.entries: list[tuple[str, int]] = []

    def reserve(self, size_bytes: int, what: str, working_bytes: int = 0) -> None:
        assert alive() == 0
        self.entries.append((what, size_bytes))
        super().reserve(size_bytes, what, working_bytes)


def alive() -> int:
    """Bytes of parameters that exist in this process, without a garbage collection that would help."""
    return sum(p.nbytes for p in gc.get_objects() if type(p) is torch.nn.Parameter and not p.is_meta)


@pytest.fixture(autouse=True, scope="module")
def _start_clean() -> None:
    gc.collect()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_experts(tmp_path_factory.mktemp("experts"))


@dataclass
class Run:
    """One forward of each expert it is called with. made: the first tensor of every unit filled for it."""

    memory: DeviceMemory
    dtype: torch.dtype = torch.float32
    wanted: str = "auto"
    made: list[str] = field(default_factory=list)

    @torch.inference_mode()
    def __call__(self, recipe: Recipe, *more: Recipe) -> list[Tensor]:
        recipes = dict(zip(("high", "low"), (recipe, *more), strict=False))
        made = self.made
        made.clear()  # and not replaced: slots that stayed still write to it

        class Noting(FileTransfer):
            def fill(self, slot: int, tensors: Any, *arguments: Any) -> Any:
                made.append(next(iter(tensors)))
                return super().fill(slot, tensors, *arguments)

        def transfer(device: torch.device, dtype_of: DTypeRule, *sizes: int) -> FileTransfer:
            return Noting(device, dtype_of)

        with Executor(
            recipes,
            self.dtype,
            self.memory,
            lambda: None,
            forwards=tuple(recipes),
            residency=residency_of(recipes, self.wanted, self.dtype),
            make_transfer=transfer,
        ) as experts:
            return [experts.use(name).predict(inputs()[0], 500.0, inputs()[1]) for name in recipes]


def changed_units(before: Recipe, after: Recipe) -> set[str]:
    """The units of which a tensor is made in another way."""
    return {unit for unit, name in CHANGED.items() if before.tensors[name] != after.tensors[name]}


STRENGTHS = st.dictionaries(st.sampled_from(list(CHANGED)), st.sampled_from([-1.0, 0.0, 0.3, 1.0]))


@settings(max_examples=15, deadline=None)
@given(st.lists(STRENGTHS, min_size=1, max_size=4), st.sampled_from([torch.float32, torch.bfloat16]))
def test_after_any_changes_of_strength_the_expert_is_as_if_made_anew(
    folder: Path, runs: list[dict[str, float]], dtype: torch.dtype
) -> None:
    run = Run(DeviceMemory("cpu", keeps=True), dtype)
    before: Recipe | None = None
    for strengths in runs:
        recipe = recipe_of(folder, **{unit.replace(".", "_"): value for unit, value in strengths.items()})
        assert torch.equal(run(recipe)[0], plain_forward(recipe, dtype, *inputs()))
        changed = UNITS if before is None else changed_units(before, recipe)
        assert len(run.made) == len({"blocks.2" if unit == "tail" else unit for unit in changed})
        before = recipe


def test_the_same_recipe_again_reads_nothing(folder: Path) -> None:
    run, copy = Run(memory := Loads()), recipe_of(folder, blocks_0=0.5)
    run(recipe_of(folder, blocks_0=0.5))
    run(copy)
    assert run.made == []
    assert len(memory.entries) == 1


def test_only_the_touched_unit_is_made_again(folder: Path) -> None:
    run = Run(DeviceMemory("cpu", keeps=True), torch.bfloat16)
    run(recipe_of(folder, blocks_0=0.5))
    run(recipe_of(folder, blocks_0=0.7))
    assert [name.partition(".attn")[0] for name in run.made] == ["blocks.0"]


def test_what_stays_of_two_experts_in_a_ring_is_used_again(folder: Path) -> None:
    run, recipes = (
        Run(DeviceMemory("cpu", keeps=True), wanted="resident"),
        [recipe_of(folder, name) for name in ("high", "low")],
    )
    first = run(*recipes)
    assert len(run.made) == 2 * MOVES
    again = run(*recipes)
    assert run.made == []
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))


def test_the_files_are_never_written(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "high.safetensors", tmp_path)
    before = (tmp_path / "high.safetensors").read_bytes()
    run = Run(DeviceMemory("cpu", keeps=True))
    for strength in (1.0, -2.0, 0.0):
        run(recipe_of(tmp_path, blocks_1=strength, tail=strength))
    assert (tmp_path / "high.safetensors").read_bytes() == before


def test_what_is_reserved_is_what_the_weights_take(folder: Path) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        memory = Loads()
        Run(memory, dtype)(recipe_of(folder))
        assert memory.entries == [("high-noise expert", alive())]


def test_two_experts_share_the_slots_of_one(folder: Path) -> None:
    memory, recipes = Loads(), [recipe_of(folder, name) for name in ("high", "low")]
    run = Run(memory)
    run(recipes[0])
    one = alive()
    memory.take()
    for _ in range(2):
        run(*recipes)
        assert alive() == one
        assert len(run.made) == 2 * MOVES
    assert [what for what, _ in memory.entries] == ["high-noise expert", "high-noise and low-noise expert"]


def test_on_a_cpu_what_stays_in_the_file_takes_no_slot(folder: Path) -> None:
    recipes, dtype_of = {"high": recipe_of(folder)}, expert_dtypes(torch.bfloat16)
    here, elsewhere = (
        unit_sizes(recipes, dtype_of, device)["high"] for device in (CPU, torch.device("cuda"))
    )
    assert all(map(operator.lt, here, elsewhere))


def test_recipes_of_one_configuration_share_a_network(folder: Path, tmp_path: Path) -> None:
    pool = BufferPool(FileTransfer(CPU, lambda _: torch.float32), CPU, torch.float32, 1, 0, 0)
    write_experts(tmp_path, layers=2)
    recipes = [recipe_of(folder), recipe_of(tmp_path, layers=2), recipe_of(folder, "low", head=0.5)]
    first, other, second = (pool.meta_network(recipe, plain_block_forward, EXPERT) for recipe in recipes)
    assert first is second
    assert first is not other


def test_an_expert_that_stayed_goes_when_its_room_is_needed(folder: Path) -> None:
    memory = DeviceMemory("cpu", keeps=True)
    Run(memory)(recipe_of(folder))
    assert alive() > 0
    memory.reserve(2**60, "VAE")
    assert alive() == 0


def test_an_expert_that_stayed_goes_with_its_memory(folder: Path) -> None:
    memory = DeviceMemory("cpu", keeps=True)
    Run(memory)(recipe_of(folder))
    del memory
    assert alive() == 0


def test_another_precision_or_another_file_is_loaded_whole(folder: Path) -> None:
    memory = Loads()
    Run(memory)(recipe_of(folder))
    run = Run(memory, torch.bfloat16)
    for recipe in (recipe_of(folder), recipe_of(folder, "low")):
        assert torch.equal(run(recipe)[0], plain_forward(recipe, torch.bfloat16, *inputs()))
        assert len(run.made) == MOVES
    assert len(memory.entries) == 2  # the other file fits into the same slots


def test_a_file_that_was_written_again_is_read_again(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "high.safetensors"
    shutil.copy(folder / "high.safetensors", file)
    run = Run(DeviceMemory("cpu", keeps=True))
    run(recipe_of(tmp_path))
    changed = {key: tensor + 1 for key, tensor in load_file(file).items()}
    file.unlink()  # as every careful writer does: the old file is still mapped
    save_file(changed, file)
    recipe = recipe_of(tmp_path)
    assert torch.equal(run(recipe)[0], plain_forward(recipe, torch.float32, *inputs()))
    assert len(run.made) == MOVES


def test_a_file_that_is_gone_is_named(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "high.safetensors", tmp_path)
    run, recipe = Run(DeviceMemory("cpu", keeps=True)), recipe_of(tmp_path)
    run(recipe)
    (tmp_path / "high.safetensors").unlink()
    with pytest.raises(ModelError, match=r"high\.safetensors"):
        run(recipe)


A14B = {"high": (504 * 2**20, *[671 * 2**20] * 40), "low": (504 * 2**20, *[671 * 2**20] * 40)}  # bf16
FORWARD, VAE = int(4.5 * GIB), 6 * GIB


@pytest.mark.parametrize(
    ("free", "slots", "ring", "words"),
    [
        (141, 82, 0, "all resident"),
        (64, 82, 0, "all resident"),
        (48, 44, 3, "one expert resident, the other streamed"),
        (24, 29, 3, "26 of an expert's 41 resident, 3 slots stream"),
        (12, 11, 3, "8 of an expert's 41 resident"),
        (8, 4, 3, "1 of an expert's 41 resident"),
        (6.8, 3, 3, "0 of an expert's 41 resident, 3 slots stream the others"),
        (2, 2, 2, "0 of an expert's 41 resident, 2 slots"),  # refused by the preflight
        (None, 3, 3, "0 of an expert's 41 resident, 3 slots"),  # unknown is no reason to think that more fits
    ],
)
def test_as_much_stays_as_fits_beside_the_work(free: float | None, slots: int, ring: int, words: str) -> None:
    budget = MemoryBudget(None if free is None else int(free * GIB), FORWARD, VAE)
    chosen = choose_residency("auto", A14B, budget)
    assert (chosen.slots, chosen.ring) == (slots, ring)
    assert words in chosen.text()
    if free is not None and slots > 2:
        assert chosen.bytes + FORWARD <= free * GIB


def test_everything_stays_only_where_the_vae_fits_too() -> None:
    tight = 82 * 671 * 2**20 + FORWARD + GIB
    assert choose_residency("auto", A14B, MemoryBudget(tight, FORWARD, FORWARD)).slots == 82
    assert choose_residency("auto", A14B, MemoryBudget(tight, FORWARD, 3 * FORWARD)).slots == 41 + RING


@pytest.mark.parametrize("slots", [82, 44, 20])
def test_what_libraries_take_for_themselves_is_left_free(slots: int) -> None:
    """A quarter of a GiB: a CUDA context and cuBLAS' workspace are that much, and no CPU can measure them."""
    exact = slots * 671 * 2**20 + FORWARD
    assert choose_residency("auto", A14B, MemoryBudget(exact + 2**28, FORWARD)).slots == slots
    assert choose_residency("auto", A14B, MemoryBudget(exact + 2**28 - 1, FORWARD)).slots < slots


def test_in_main_memory_the_second_expert_waits_in_its_file() -> None:
    assert choose_residency("auto", A14B, MemoryBudget(500 * GIB, FORWARD, VAE), own_memory=False).slots == 41
    assert choose_residency("auto", A14B, MemoryBudget(16 * GIB, FORWARD, VAE), own_memory=False).slots == 17


@pytest.mark.parametrize(
    ("wanted", "slots", "ring"), [("resident", 82, 0), ("ring", 3, 3), ("ring:7", 7, 7), ("ring:999", 82, 0)]
)
def test_what_was_asked_for_is_taken_whatever_there_is(wanted: str, slots: int, ring: int) -> None:
    chosen = choose_residency(wanted, A14B, MemoryBudget(GIB, FORWARD, VAE))
    assert (chosen.slots, chosen.ring) == (slots, ring)


@pytest.mark.parametrize("wanted", ["", "all", "ring:", "ring:0", "ring:-1", "ring:two", "Ring"])
def test_another_word_for_the_residency_is_refused(wanted: str) -> None:
    with pytest.raises(RequestError, match=r"residency: .*auto, resident, ring, or ring:N"):
        choose_residency(wanted, A14B, MemoryBudget(None, 0))
