"""One layer on stored numbers: in every format, with padding, rotation, smoothing and LoRAs."""

from __future__ import annotations

from pathlib import Path

import pytest
import quantised_files as files
import tiny_files as tiny
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from wan_duet.pipelines.networks.stored_linear import StoredLinear, replace_linears
from wan_duet.pipelines.weights.checkpoint import read_checkpoint
from wan_duet.pipelines.weights.lora.delta import LoraDelta, LowRank
from wan_duet.pipelines.weights.quantised_tensor import unpadded
from wan_duet.pipelines.weights.recipe import Recipe
from wan_duet.pipelines.weights.stored_layers import StoredUse, computing_as_stored, work_by_way
from wan_duet.pipelines.weights.stored_parts import stored_dtypes
from wan_duet.pipelines.weights.stored_tensors import Files, read_header

CPU = torch.device("cpu")
NAME, BIAS = "blocks.0.layer.weight", "blocks.0.layer.bias"
# |found - exact| / |exact| for Gaussian tokens: what quantising the tokens costs, measured and rounded up.
ERRORS = {
    "fp8 per row": 0.03,
    "int8 per row": 0.012,
    "int8_tensorwise per row": 0.012,
    "int8_tensorwise": 0.012,
    "int8_tensorwise rotated by 16": 0.012,
    "int8_tensorwise rotated by 256": 0.012,
    "quanto": 0.012,
    "mxfp8": 0.03,
    "nvfp4": 0.1,
    "nvfp4 smoothed": 0.1,
    "convrot_w4a4 by 16": 0.012,
    "convrot_w4a4 by 256": 0.012,
    "asym_w4a8_int8 by 16": 0.012,
    "asym_w4a8_int8 by 256": 0.012,
    "asym_w4a8_int8 without a codebook": 0.012,
}
DECODED = {kind for kind in files.FORMATS if "in squares" in kind or "in blocks" in kind}


def shape_of(kind: str) -> tuple[int, int]:
    """Across the borders of tiles and padding where the format has any."""
    return (300, 256) if "256" in kind else (300, 272)


def matrix(kind: str, folder: Path) -> tuple[Recipe, Tensor, Tensor]:
    """A recipe of one layer, what its weight means, and its bias."""
    (weight,) = files.matrices([shape_of(kind)]).values()
    held, meant, _ = files.quantised({NAME: weight}, kind, lambda *_: True)
    bias = torch.linspace(-1, 1, len(weight))
    file = tiny.save(folder / "m.safetensors", {**held, BIAS: bias})
    tensors = unpadded(read_checkpoint(file).tensors, {NAME: tuple(weight.shape)})
    return Recipe.of({}, tensors), meant[NAME].double(), bias.double()


class Holder(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        block = nn.Module()
        block.layer = layer
        self.blocks = nn.ModuleList([block])


def layer_of(recipe: Recipe) -> StoredLinear:
    """The layer of a recipe, filled as a slot is."""
    rows, columns = recipe.stored["blocks.0.layer"].shape
    network = Holder(nn.Linear(columns, rows, device="meta"))
    replace_linears(network, recipe.stored)
    recipe.into("blocks.0", network, CPU, lambda name: stored_dtypes(name) or torch.float32)
    made = network.blocks[0].layer
    assert isinstance(made, StoredLinear)
    return made


def tokens(columns: int, count: int = 40) -> Tensor:
    return torch.randn(2, count // 2, columns, generator=torch.Generator().manual_seed(3))


def apart(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("kind", ERRORS)
@torch.inference_mode()
def test_the_product_is_that_of_the_meant_weight_but_for_the_tokens(tmp_path: Path, kind: str) -> None:
    plain, meant, bias = matrix(kind, tmp_path)
    recipe, uses = computing_as_stored(plain, CPU)
    assert [use.way is not None for use in uses] == [True]
    hidden = tokens(meant.shape[1])
    found = layer_of(recipe)(hidden)
    exact = hidden.double() @ meant.T
    assert 1e-4 < apart(found - bias, exact) < ERRORS[kind]


@pytest.mark.parametrize("kind", sorted(DECODED))
def test_scales_that_change_along_a_row_are_decoded_and_said(tmp_path: Path, kind: str) -> None:
    recipe, _, _ = matrix(kind, tmp_path)
    made, uses = computing_as_stored(recipe, CPU)
    assert uses == (StoredUse("fp8 in blocks", 1, None, "its scales change along a row"),)
    assert made == recipe


def test_every_format_is_in_one_of_the_two_tables() -> None:
    assert ERRORS.keys() | DECODED == files.FORMATS.keys()


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
@torch.inference_mode()
def test_fp8_without_scales_has_the_scale_1(tmp_path: Path, dtype: torch.dtype) -> None:
    weight = files.matrices([(32, 48)])["layer0.weight"].to(dtype)
    file = tiny.save(tmp_path / "m.safetensors", {NAME: weight, BIAS: torch.zeros(32)})
    recipe, uses = computing_as_stored(Recipe.of({}, read_header(file)), CPU)
    assert [(use.format, use.layers, use.way) for use in uses] == [("fp8 without scales", 1, "fp8 on a CPU")]
    hidden = tokens(48)
    assert apart(layer_of(recipe)(hidden), hidden.double() @ weight.double().T) < 0.03


@pytest.mark.parametrize("kind", ["fp8 per row", "int8_tensorwise rotated by 256", "nvfp4 smoothed"])
@torch.inference_mode()
def test_loras_beside_the_product_equal_their_delta(tmp_path: Path, kind: str) -> None:
    plain, meant, _ = matrix(kind, tmp_path)
    rows, columns = meant.shape
    held = {"a": (3, columns), "b": (rows, 3), "c": (1, columns), "d": (rows, 1)}
    generator = torch.Generator().manual_seed(4)
    save_file(
        {n: torch.randn(s, generator=generator) for n, s in held.items()}, tmp_path / "lora.safetensors"
    )
    a, b, c, d = read_header(tmp_path / "lora.safetensors").values()
    file, read = tmp_path / "lora.safetensors", Files(CPU)
    one, two = LoraDelta(file, 0.5, 0.25, LowRank(a, b)), LoraDelta(file, -2.0, 1.0, LowRank(c, d))
    with_loras = plain.with_deltas({NAME: [one]}).with_deltas({NAME: [two]})
    hidden = tokens(columns)
    found = layer_of(computing_as_stored(with_loras, CPU)[0])(hidden)
    without = layer_of(computing_as_stored(plain, CPU)[0])(hidden)
    delta = 0.125 * b.read(read).double() @ a.read(read).double()
    delta -= 2 * d.read(read).double() @ c.read(read).double()
    assert apart(found.double() - without.double(), hidden.double() @ delta.T) < 1e-5


def test_the_work_of_a_recipe_is_told_by_way(tmp_path: Path) -> None:
    """The layer of 300 x 272 computes on stored numbers, with a LoRA of rank 3; one of 100 x 272 does not."""
    plain, _, _ = matrix("int8 per row", tmp_path)
    save_file({"a": torch.ones(3, 272), "b": torch.ones(300, 3)}, tmp_path / "lora.safetensors")
    a, b = read_header(tmp_path / "lora.safetensors").values()
    save_file({"blocks.0.other.weight": torch.ones(100, 272)}, tmp_path / "o.safetensors")
    both = Recipe.of(
        {},
        {
            **{name: one.source for name, one in plain.tensors.items()},
            **read_header(tmp_path / "o.safetensors"),
        },
    )
    recipe = both.with_deltas({NAME: [LoraDelta(tmp_path / "lora.safetensors", 1.0, 1.0, LowRank(a, b))]})
    total = 400 * 272
    work = work_by_way(computing_as_stored(recipe, CPU)[0])
    assert work == {"int8 on a CPU": 300 * 272 / total, None: (100 * 272 + 3 * (300 + 272)) / total}
    assert work_by_way(recipe) == {None: 1.0}


@torch.inference_mode()
def test_a_result_can_be_written_to_a_place_and_many_tokens_come_in_parts(tmp_path: Path) -> None:
    recipe = computing_as_stored(matrix("int8 per row", tmp_path)[0], CPU)[0]
    layer, hidden = layer_of(recipe), tokens(272, 5000)
    place = torch.empty(2, 2500, 300)
    assert layer(hidden, place) is place
    assert place.equal(layer(hidden))
    assert place[1, -7:].equal(layer(hidden[1, -7:]))
    assert layer(hidden[:, :3].bfloat16()).dtype == torch.bfloat16
