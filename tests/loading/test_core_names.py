"""A recipe in the names that ComfyUI's loaders read."""

from __future__ import annotations

from pathlib import Path

import pytest
import quantised_files as files
import tiny_files as tiny
import torch

from wan_duet.pipelines.loading.core_names import added_by_loras, core_tensors, readable_file, to_wan
from wan_duet.pipelines.loading.identify import read_part
from wan_duet.pipelines.weights.module_names import BLOCK_MODULES, MODULES, to_diffusers
from wan_duet.pipelines.weights.recipe import Recipe


@pytest.mark.parametrize("module", [*MODULES, *(f"blocks.7.{module}" for module in BLOCK_MODULES)])
def test_every_name_comes_back(module: str) -> None:
    there = to_diffusers(module)
    assert there is not None
    assert to_wan(there) == module
    assert to_wan(f"{there}.weight") == f"{module}.weight"


@pytest.fixture
def weights() -> tiny.Weights:
    return tiny.transformer(0)


def recipe_of(folder: Path, name: str, weights: tiny.Weights) -> Recipe:
    tiny.save(folder / name, weights)
    return read_part(folder / name, "transformer", "model")


def test_only_a_file_in_wans_names_is_read_as_it_is(tmp_path: Path, weights: tiny.Weights) -> None:
    wan = recipe_of(tmp_path, "wan.safetensors", tiny.wan_transformer_names(weights))
    prefixed = recipe_of(
        tmp_path, "prefixed.safetensors", tiny.wan_transformer_names(weights, "model.diffusion_model.")
    )
    diffusers = recipe_of(tmp_path, "diffusers.safetensors", weights)
    assert readable_file(wan) == tmp_path / "wan.safetensors"
    assert readable_file(prefixed) == tmp_path / "prefixed.safetensors"
    assert readable_file(diffusers) is None


@pytest.mark.parametrize(
    "prefix", ["transformer.", "module.", "pipe.dit.", "dit.", "_orig_mod.", "generator_ema."]
)
def test_names_that_comfyui_has_no_prefix_for_are_not_left_to_it(
    tmp_path: Path, weights: tiny.Weights, prefix: str
) -> None:
    recipe = recipe_of(tmp_path, "m.safetensors", tiny.wan_transformer_names(weights, prefix))
    assert readable_file(recipe) is None
    assert core_tensors(recipe, torch.bfloat16).keys() == tiny.wan_transformer_names(weights).keys()


@pytest.mark.parametrize(
    ("kind", "readable"), [("fp8 per row", True), ("int8 per row", False), ("nvfp4", False)]
)
def test_formats_that_an_older_comfyui_does_not_read_are_decoded_for_it(
    tmp_path: Path, weights: tiny.Weights, kind: str, readable: bool
) -> None:
    held, meant, _ = files.quantised(tiny.wan_transformer_names(weights), kind, tiny.is_linear)
    recipe = recipe_of(tmp_path, "m.safetensors", held)
    assert (readable_file(recipe) is not None) is readable
    found = core_tensors(recipe, torch.bfloat16)
    name = "blocks.0.self_attn.q.weight"
    assert torch.equal(found[name], meant[name].bfloat16())


def test_tensors_are_the_stored_ones_in_wans_names(tmp_path: Path, weights: tiny.Weights) -> None:
    tensors = core_tensors(recipe_of(tmp_path, "diffusers.safetensors", weights), torch.bfloat16)
    expected = tiny.wan_transformer_names(weights)
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)


def test_without_a_lora_nothing_is_added(tmp_path: Path, weights: tiny.Weights) -> None:
    assert added_by_loras(recipe_of(tmp_path, "diffusers.safetensors", weights)) == {}
