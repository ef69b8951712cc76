"""Recipes: what a file, a unit and a sum of LoRA deltas become in the network."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from wan_duet.pipelines.errors import LoraError, ModelError
from wan_duet.pipelines.memory import DeviceMemory
from wan_duet.pipelines.models.expert import blank_expert, load_expert
from wan_duet.pipelines.models.wan_model import load_model
from wan_duet.pipelines.weights.folder import read_component
from wan_duet.pipelines.weights.lora import attach_lora
from wan_duet.pipelines.weights.lora_source import find_lora
from wan_duet.pipelines.weights.recipe import Recipe, materialise

CPU = torch.device("cpu")
TARGETS = {"blocks.0.attn1.to_q": 4, "blocks.1.ffn.net.2": 2, "condition_embedder.text_embedder.linear_1": 3}


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_model("toy").experts["high"]


def lora_file(
    folder: Path, name: str, recipe: Recipe, *, seed: int = 0, alpha: float | None = None, prefix: str = ""
) -> Path:
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, Tensor] = {}
    for module, rank in TARGETS.items():
        out_features, in_features = recipe.tensors[f"{module}.weight"].shape
        weights[f"{prefix}{module}.lora_A.weight"] = torch.randn(rank, in_features, generator=generator)
        weights[f"{prefix}{module}.lora_B.weight"] = torch.randn(out_features, rank, generator=generator)
        if alpha is not None:
            weights[f"{prefix}{module}.alpha"] = torch.tensor(alpha)
    file = folder / f"{name}.safetensors"
    save_file(weights, file)
    return file


def made(recipe: Recipe, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    network = blank_expert(recipe)
    materialise(recipe, network, CPU, lambda _: dtype, lambda: None)
    return dict(network.state_dict())


def test_units_are_head_then_blocks_in_order_then_tail(recipe: Recipe) -> None:
    blocks = recipe.config["num_layers"]
    assert recipe.units == ("head", *(f"blocks.{index}" for index in range(blocks)), "tail")


def test_a_materialised_unit_leaves_the_others_on_meta(recipe: Recipe) -> None:
    network = blank_expert(recipe)
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
    network = blank_expert(recipe)
    recipe.into("tail", network, CPU, lambda _: torch.float16)
    address, file = network.proj_out.weight.data_ptr(), str(recipe.files[0].resolve())
    ranges = [
        [int(end, 16) for end in line.split()[0].split("-")]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if line.endswith(file)
    ]
    assert any(start <= address < end for start, end in ranges)


def test_rotary_tables_are_computed_and_finite(recipe: Recipe) -> None:
    network = blank_expert(recipe)
    assert not network.rope.freqs_cos.is_meta
    assert torch.isfinite(network.rope.freqs_cos).all()


def test_norms_and_modulation_stay_float32_in_a_half_precision_expert(recipe: Recipe) -> None:
    engine = load_expert(recipe, "expert", torch.bfloat16, DeviceMemory("cpu"), lambda: None)
    network = engine._network
    assert network.blocks[0].norm2.weight.dtype == torch.float32
    assert network.scale_shift_table.dtype == torch.float32
    assert network.condition_embedder.time_embedder.linear_1.weight.dtype == torch.float32
    assert network.blocks[0].ffn.net[2].weight.dtype == torch.bfloat16


@pytest.mark.parametrize("alpha", [None, 2.0])
@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_lora_equals_a_manual_merge_in_float64(
    tmp_path: Path, recipe: Recipe, alpha: float | None, prefix: str
) -> None:
    file = lora_file(tmp_path, "a", recipe, alpha=alpha, prefix=prefix)
    weights = load_file(file)
    merged = made(attach_lora(recipe, file, 0.7, "high")[0])
    plain = made(recipe)
    for module, rank in TARGETS.items():
        down, up = (weights[f"{prefix}{module}.lora_{side}.weight"].double() for side in "AB")
        scale = 1.0 if alpha is None else alpha / rank
        expected = plain[f"{module}.weight"].double() + 0.7 * scale * (up @ down)
        difference = (merged[f"{module}.weight"].double() - expected).norm() / expected.norm()
        assert float(difference) <= 1e-6
    touched = {f"{module}.weight" for module in TARGETS}
    assert all(torch.equal(merged[name], plain[name]) for name in plain if name not in touched)


def test_the_order_of_loras_does_not_matter_to_a_bit(tmp_path: Path, recipe: Recipe) -> None:
    files = [lora_file(tmp_path, name, recipe, seed=seed) for seed, name in enumerate("abc")]
    results = []
    for order in itertools.permutations(zip(files, (0.3, -0.5, 1.1), strict=True)):
        current = recipe
        for file, strength in order:
            current = attach_lora(current, file, strength, "high")[0]
        results.append(made(current)["blocks.0.attn1.to_q.weight"])
    assert all(torch.equal(result, results[0]) for result in results)


def test_strength_zero_is_no_lora_at_all(tmp_path: Path, recipe: Recipe) -> None:
    attached = attach_lora(recipe, lora_file(tmp_path, "a", recipe), 0.0, "high")[0]
    assert attached == recipe


def test_high_lora_leaves_the_low_expert_unchanged(tmp_path: Path) -> None:
    model = load_model("toy")
    file = lora_file(tmp_path, "a", model.experts["high"])
    changed = model.with_lora(file, 1.0, "high")
    assert changed.experts["low"] is model.experts["low"]
    assert changed.experts["high"] != model.experts["high"]
    assert model.with_lora(file, 1.0, "both").experts["low"] != model.experts["low"]


def test_lora_of_another_model_is_refused_with_both_shapes(tmp_path: Path, recipe: Recipe) -> None:
    file = tmp_path / "wide.safetensors"
    save_file(
        {
            "blocks.0.attn1.to_q.lora_A.weight": torch.ones(2, 5120),
            "blocks.0.attn1.to_q.lora_B.weight": torch.ones(5120, 2),
        },
        file,
    )
    with pytest.raises(LoraError, match=r"5120x5120.*256x256"):
        attach_lora(recipe, file, 1.0, "high")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"lora_unet_blocks_0_self_attn_q.lora_down.weight": torch.ones(1, 1)}, "diffusers dialect"),
        (
            {
                "blocks.99.attn1.to_q.lora_A.weight": torch.ones(1, 256),
                "blocks.99.attn1.to_q.lora_B.weight": torch.ones(256, 1),
            },
            "does not have",
        ),
        ({"blocks.0.attn1.to_q.lora_A.weight": torch.ones(1, 256)}, "only one of"),
        (
            {
                "blocks.0.attn1.to_q.lora_A.weight": torch.ones(2, 256),
                "blocks.0.attn1.to_q.lora_B.weight": torch.ones(256, 3),
            },
            "rank 2 in lora_A and 3",
        ),
    ],
)
def test_a_lora_that_would_not_act_is_refused(
    tmp_path: Path, recipe: Recipe, weights: dict[str, Tensor], message: str
) -> None:
    file = tmp_path / "odd.safetensors"
    save_file(weights, file)
    with pytest.raises(LoraError, match=message):
        attach_lora(recipe, file, 1.0, "high")


def test_a_lora_is_found_by_either_slash_and_never_outside_its_folders(tmp_path: Path) -> None:
    (tmp_path / "loras" / "style").mkdir(parents=True)
    inside = tmp_path / "loras" / "style" / "a.safetensors"
    inside.touch()
    (tmp_path / "secret.safetensors").touch()
    folders = [tmp_path / "loras"]
    assert find_lora("style/a.safetensors", folders) == find_lora("style\\a.safetensors", folders) == inside
    if sys.platform != "win32":  # links need rights there
        (tmp_path / "loras" / "linked.safetensors").symlink_to(tmp_path / "secret.safetensors")
        with pytest.raises(LoraError, match="leads out of"):
            find_lora("linked.safetensors", folders)
    for path in (
        "../secret.safetensors",
        str(tmp_path / "secret.safetensors"),
        "https://x.y/a.safetensors",
        "nothing",
    ):
        with pytest.raises(LoraError):
            find_lora(path, folders)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json: not found"),
        (lambda f: (f / "config.json").write_text("[1]"), "holds a list"),
        (lambda f: (f / "model.safetensors").unlink(), "holds no"),
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
