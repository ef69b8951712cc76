"""Which expert is in memory, and what is made again when its recipe changes."""

from __future__ import annotations

import gc
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from wan_duet.pipelines.errors import ModelError
from wan_duet.pipelines.memory import DeviceMemory
from wan_duet.pipelines.models.expert import ExpertPair, WanEngine, load_expert
from wan_duet.pipelines.sampling.engine import Condition
from wan_duet.pipelines.weights.recipe import Recipe
from wan_duet.pipelines.weights.stored import Files, read_header

CONFIG: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "text_dim": 8,
    "freq_dim": 8,
    "ffn_dim": 32,
    "num_layers": 3,
}
UNITS = ("head", "blocks.0", "blocks.1", "blocks.2", "tail")
# One tensor of every unit: by them a unit can be changed alone. The time embedder stays float32.
CHANGED = {
    "head": "condition_embedder.time_embedder.linear_1.weight",
    "blocks.0": "blocks.0.attn1.to_q.weight",
    "blocks.1": "blocks.1.ffn.net.2.weight",
    "blocks.2": "blocks.2.norm2.weight",
    "tail": "proj_out.weight",
}


@dataclass(frozen=True)
class Change:
    """Adds `strength` times the tensor itself, as a file of its own has it."""

    file: Path
    key: str
    strength: float

    def change(self, files: Files, base: Tensor) -> Tensor:
        return files.read(self.file, self.key).float().reshape(base.shape)


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
    """Networks that exist in this process, without a garbage collection that would help."""
    return sum(isinstance(thing, WanTransformer3DModel) for thing in gc.get_objects())


@pytest.fixture(autouse=True, scope="module")
def _start_clean() -> None:
    gc.collect()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two experts; one block of each is stored in float32, the rest in bf16."""
    made = tmp_path_factory.mktemp("experts")
    for seed, name in enumerate(("high", "low")):
        torch.manual_seed(seed)
        weights = WanTransformer3DModel(**CONFIG).state_dict()
        stored = {
            key: tensor if key.startswith("blocks.1.") else tensor.bfloat16()
            for key, tensor in weights.items()
        }
        save_file(stored, made / f"{name}.safetensors")
    return made


def recipe_of(folder: Path, expert: str = "high", **strengths: float) -> Recipe:
    """strengths: by unit; blocks.0 is written blocks_0."""
    file = folder / f"{expert}.safetensors"
    plain = Recipe.of(CONFIG, read_header(file))
    names = {unit.replace("_", "."): strength for unit, strength in strengths.items()}
    return plain.with_deltas(
        {CHANGED[unit]: [Change(file, CHANGED[unit], strength)] for unit, strength in names.items()}
    )


def weights_of(engine: WanEngine) -> dict[str, Tensor]:
    assert engine._network is not None
    return dict(engine._network.state_dict())


def fresh(recipe: Recipe, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return weights_of(load_expert(recipe, "expert", dtype, DeviceMemory("cpu"), lambda: None))


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


@dataclass
class Run:
    """One use of one expert; `made` counts the units that were filled for it."""

    memory: DeviceMemory
    dtype: torch.dtype = torch.float32
    made: int = 0

    def __call__(self, recipe: Recipe, expert: str = "high") -> dict[str, Tensor]:
        self.made = 0
        with ExpertPair({expert: recipe}, self.dtype, self.memory, self._count) as experts:
            return {name: tensor.clone() for name, tensor in weights_of(experts.use(expert)).items()}

    def _count(self) -> None:
        self.made += 1


STRENGTHS = st.dictionaries(st.sampled_from(list(CHANGED)), st.sampled_from([-1.0, 0.0, 0.3, 1.0]))


@settings(max_examples=25, deadline=None)
@given(st.lists(STRENGTHS, min_size=1, max_size=5), st.sampled_from([torch.float32, torch.bfloat16]))
def test_after_any_changes_of_strength_the_expert_is_as_if_made_anew(
    folder: Path, runs: list[dict[str, float]], dtype: torch.dtype
) -> None:
    run = Run(DeviceMemory("cpu", keeps=True), dtype)
    before: Recipe | None = None
    for strengths in runs:
        recipe = recipe_of(folder, **{unit.replace(".", "_"): value for unit, value in strengths.items()})
        assert same(run(recipe), fresh(recipe, dtype))
        expected = UNITS if before is None else before.changed_units(recipe)
        assert run.made == len(expected)
        before = recipe


def test_the_same_recipe_again_reads_nothing(folder: Path) -> None:
    run, copy = Run(memory := Loads()), recipe_of(folder, blocks_0=0.5)
    run(recipe_of(folder, blocks_0=0.5))
    run(copy)
    assert run.made == 0
    assert len(memory.entries) == 1


def test_only_the_touched_unit_is_made_again(folder: Path) -> None:
    memory = DeviceMemory("cpu", keeps=True)
    places: list[dict[str, int]] = []
    for strength in (0.5, 0.7):
        recipes = {"high": recipe_of(folder, blocks_0=strength)}
        with ExpertPair(recipes, torch.bfloat16, memory, lambda: None) as experts:
            places.append({name: t.data_ptr() for name, t in weights_of(experts.use("high")).items()})
    moved = {name for name in places[0] if places[0][name] != places[1][name]}
    assert CHANGED["blocks.0"] in moved
    assert all(name.startswith("blocks.0.") for name in moved)


def test_the_files_are_never_written(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "high.safetensors", tmp_path)
    before = (tmp_path / "high.safetensors").read_bytes()
    run = Run(DeviceMemory("cpu", keeps=True))
    for strength in (1.0, -2.0, 0.0):
        run(recipe_of(tmp_path, blocks_1=strength, tail=strength))
    assert (tmp_path / "high.safetensors").read_bytes() == before


def test_what_is_reserved_is_what_the_weights_take(folder: Path) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        memory = Loads(keeps=False)
        weights = Run(memory, dtype)(recipe_of(folder))
        assert memory.entries == [("high-noise expert", sum(tensor.nbytes for tensor in weights.values()))]


def test_the_other_expert_is_dropped_before_one_is_loaded(folder: Path) -> None:
    recipes = {name: recipe_of(folder, name) for name in ("high", "low")}
    memory = Loads()
    for _ in range(2):
        with ExpertPair(recipes, torch.float32, memory, lambda: None) as experts:
            held = [experts.use("high"), experts.use("low")]
        assert alive() == 1
    assert [what for what, _ in memory.entries] == ["high-noise expert", "low-noise expert"] * 2
    with pytest.raises(ModelError, match="taken out of memory"):
        held[0].predict(torch.zeros(1, 16, 1, 2, 2), 1.0, Condition(torch.zeros(1, 4, 8)))


def test_an_expert_that_stayed_goes_when_its_room_is_needed(folder: Path) -> None:
    memory = DeviceMemory("cpu", keeps=True)
    Run(memory)(recipe_of(folder))
    assert alive() == 1
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
    for run, recipe in (
        (Run(memory, torch.bfloat16), recipe_of(folder)),
        (Run(memory, torch.bfloat16), recipe_of(folder, "low")),
    ):
        assert same(run(recipe), fresh(recipe, torch.bfloat16))
        assert run.made == len(UNITS)
    assert len(memory.entries) == 3


def test_a_file_that_was_written_again_is_read_again(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "high.safetensors"
    shutil.copy(folder / "high.safetensors", file)
    run = Run(DeviceMemory("cpu", keeps=True))
    run(recipe_of(tmp_path))
    changed = {key: tensor + 1 for key, tensor in load_file(file).items()}
    file.unlink()  # as every careful writer does: the old file is still mapped
    save_file(changed, file)
    recipe = recipe_of(tmp_path)
    assert same(run(recipe), fresh(recipe))


def test_a_file_that_is_gone_is_named(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "high.safetensors", tmp_path)
    run, recipe = Run(DeviceMemory("cpu", keeps=True)), recipe_of(tmp_path)
    run(recipe)
    (tmp_path / "high.safetensors").unlink()
    with pytest.raises(ModelError, match=r"high\.safetensors"):
        run(recipe)


class Stopped(BaseException):
    pass


def test_a_stop_while_units_are_made_again_leaves_nothing(folder: Path) -> None:
    memory, asked = DeviceMemory("cpu", keeps=True), 0
    Run(memory)(recipe_of(folder))

    def stop_at_the_second() -> None:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise Stopped

    every = {unit.replace(".", "_"): 0.5 for unit in ("blocks.0", "blocks.1", "tail")}
    pair = ExpertPair({"high": recipe_of(folder, **every)}, torch.float32, memory, stop_at_the_second)
    with pytest.raises(Stopped), pair as experts:
        experts.use("high")
    assert memory.take() is None
    assert alive() == 0


def test_a_run_that_fails_keeps_nothing(folder: Path) -> None:
    memory = DeviceMemory("cpu", keeps=True)

    def fail(experts: ExpertPair) -> None:
        with experts:
            experts.use("high")
            raise Stopped

    with pytest.raises(Stopped):
        fail(ExpertPair({"high": recipe_of(folder)}, torch.float32, memory, lambda: None))
    assert memory.take() is None
    assert alive() == 0
