"""Recipes: what a file, a unit and a sum of LoRA deltas become in the network."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from wan_duet.pipelines.device.ram import trim_heap
from wan_duet.pipelines.errors import ModelError
from wan_duet.pipelines.loading.wan_model import load_model
from wan_duet.pipelines.networks.expert import expert_dtypes, meta_expert
from wan_duet.pipelines.weights.folder import read_component
from wan_duet.pipelines.weights.recipe import Recipe, materialise
from wan_duet.pipelines.weights.stored_tensors import Files

from ..anonymous_memory import anonymous_bytes, only_on_linux

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_model("toy").experts["high"]


def made(recipe: Recipe, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    network = meta_expert(recipe)
    materialise(recipe, network, CPU, lambda _: dtype, lambda: None)
    return dict(network.state_dict())


def test_units_are_head_then_blocks_in_order_then_tail(recipe: Recipe) -> None:
    blocks = recipe.config["num_layers"]
    assert recipe.units == ("head", *(f"blocks.{index}" for index in range(blocks)), "tail")


def test_a_materialised_unit_leaves_the_others_on_meta(recipe: Recipe) -> None:
    network = meta_expert(recipe)
    recipe.into("blocks.1", network, CPU, lambda _: torch.float32)
    real = {
        name.rsplit(".", 1)[0][:8] for name, parameter in network.named_parameters() if not parameter.is_meta
    }
    assert real == {"blocks.1"}


def test_weights_are_those_of_the_file(recipe: Recipe) -> None:
    stored = load_file(recipe.files[0])
    assert all(torch.equal(tensor, stored[name].float()) for name, tensor in made(recipe).items())


@pytest.mark.skipif(sys.platform != "linux", reason="looks the mapping up in /proc")
def test_matching_dtype_stays_the_memory_mapped_file(recipe: Recipe) -> None:
    network = meta_expert(recipe)
    recipe.into("tail", network, CPU, lambda _: torch.float16)
    address, file = network.proj_out.weight.data_ptr(), str(recipe.files[0].resolve())
    ranges = [
        [int(end, 16) for end in line.split()[0].split("-")]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if line.endswith(file)
    ]
    assert any(start <= address < end for start, end in ranges)


def test_rotary_tables_are_computed_and_finite(recipe: Recipe) -> None:
    network = meta_expert(recipe)
    assert not network.rope.freqs_cos.is_meta
    assert torch.isfinite(network.rope.freqs_cos).all()


def test_norms_and_modulation_stay_float32_in_a_half_precision_expert(recipe: Recipe) -> None:
    network = meta_expert(recipe)
    materialise(recipe, network, CPU, expert_dtypes(torch.bfloat16), lambda: None)
    assert network.blocks[0].norm2.weight.dtype == torch.float32
    assert network.scale_shift_table.dtype == torch.float32
    assert network.condition_embedder.time_embedder.linear_1.weight.dtype == torch.float32
    assert network.blocks[0].ffn.net[2].weight.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json: not found"),
        (lambda f: (f / "config.json").write_text("[1]"), "holds a list"),
        (lambda f: (f / "model.safetensors").unlink(), "has no diffusion_pytorch_model"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 64), "not a readable safetensors"),
        (
            lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-8]),
            "not a readable",
        ),
    ],
)
def test_a_damaged_component_folder_is_named(tmp_path: Path, spoil: object, message: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    save_file({"a": torch.ones(64)}, tmp_path / "model.safetensors")
    spoil(tmp_path)  # type: ignore[operator]
    with pytest.raises(ModelError, match=message):
        read_component(tmp_path)


def test_sharded_folders_are_read_and_shards_stay_inside(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    for index in (1, 2):
        save_file({f"t{index}": torch.full((2,), float(index))}, tmp_path / f"part-{index}.safetensors")
    index_file = tmp_path / "diffusion_pytorch_model.safetensors.index.json"
    index_file.write_text(
        json.dumps({"weight_map": {"t1": "part-1.safetensors", "t2": "part-2.safetensors"}})
    )
    assert set(read_component(tmp_path).tensors) == {"t1", "t2"}
    index_file.write_text(json.dumps({"weight_map": {"t1": "../part-1.safetensors"}}))
    with pytest.raises(ModelError, match="must lie in the folder itself"):
        read_component(tmp_path)


def test_a_missing_tensor_is_named(tmp_path: Path, recipe: Recipe) -> None:
    tensors = {name: item for name, item in recipe.tensors.items() if name != "proj_out.bias"}
    with pytest.raises(ModelError, match=r"no tensor for proj_out\.bias \(1 missing\)"):
        made(Recipe(recipe.config, tensors))


@dataclass(frozen=True)
class Computed:
    """A source whose numbers are computed, as those of a compressed file are: 16 MiB of float32."""

    file: Path = Path("computed")
    shape: tuple[int, ...] = (2**11, 2**11)
    stored_bytes: int = 2**22

    def read(self, files: Files) -> Tensor:
        del files
        return torch.ones(self.shape)


@only_on_linux
def test_what_filling_takes_on_the_way_goes_back_to_the_system() -> None:
    """The C library would keep it: it lies below tensors that stay."""
    blocks = nn.ModuleList(nn.Linear(2**11, 2**11, bias=False, device="meta") for _ in range(3))
    network = nn.ModuleDict({"blocks": blocks})
    recipe = Recipe.of({}, dict.fromkeys(network.state_dict(), Computed()))
    trim_heap()
    before = anonymous_bytes()
    materialise(recipe, network, CPU, lambda _: torch.bfloat16, lambda: None)
    kept = sum(tensor.nbytes for tensor in network.state_dict().values())
    assert kept == 3 * 2**23
    assert anonymous_bytes() - before <= kept + 2**22
