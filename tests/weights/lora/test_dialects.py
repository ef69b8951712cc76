"""LoRA files of every trainer: each equals the merge by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wan_duet.pipelines.weights.lora.attach import attach_lora
from wan_duet.pipelines.weights.lora.lora_file import read_lora
from wan_duet.pipelines.weights.lora.lora_names import is_image_path, read_key, resolve
from wan_duet.pipelines.weights.module_names import MODULES
from wan_duet.pipelines.weights.recipe import Recipe

from .lora_files import (
    BLOCK_MATRICES,
    DIALECTS,
    IMAGE_MATRICES,
    NORMS,
    TOP_MATRICES,
    Dialect,
    difference,
    low_rank_file,
    made,
    matrices,
    stored,
    tiny_expert,
)

REAL_BLOCKS = 40  # of the 14B models
REAL_MODULES = {
    **TOP_MATRICES,
    **{wan: theirs for wan, theirs in MODULES.items() if wan.startswith(("img_emb", "head.mod"))},
    **{
        f"blocks.{index}.{wan}": f"blocks.{index}.{theirs}"
        for index in range(REAL_BLOCKS)
        for wan, theirs in (
            *BLOCK_MATRICES.items(),
            *IMAGE_MATRICES.items(),
            *NORMS.items(),
            ("modulation", "scale_shift_table"),
            ("cross_attn.norm_k_img", "attn2.norm_added_k"),
        )
    },
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return tiny_expert(tmp_path_factory.mktemp("expert"))


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_every_dialect_equals_a_merge_by_hand(tmp_path: Path, recipe: Recipe, dialect: Dialect) -> None:
    file = tmp_path / "a.safetensors"
    added = low_rank_file(file, recipe, dialect)
    merged_recipe, report = attach_lora(recipe, read_lora(file), -0.7, "high")
    merged, before = made(merged_recipe), stored(recipe)
    assert report.coverage.tensors == len(added) == len(matrices())
    assert (report.coverage.share, report.coverage.unmatched) == (1.0, ())
    for name, tensor in merged.items():
        if name in added:
            assert difference(tensor, before[name] - 0.7 * added[name]) <= 1e-6
        else:
            assert torch.equal(tensor.double(), torch.from_numpy(before[name]))


@pytest.mark.parametrize("name", ["musubi", "musubi without alpha", "lightning", "peft"])
@pytest.mark.parametrize(
    "kept",
    [
        lambda wan: "self_attn" in wan,
        lambda wan: wan.startswith("blocks.1."),
        lambda wan: not wan.startswith("blocks."),
    ],
    ids=["attention only", "one block", "no block"],
)
def test_a_partial_file_changes_what_it_holds(
    tmp_path: Path, recipe: Recipe, name: str, kept: object
) -> None:
    dialect = next(dialect for dialect in DIALECTS if dialect.name == name)
    modules = {wan: theirs for wan, theirs in matrices().items() if kept(wan)}  # type: ignore[operator]
    added = low_rank_file(tmp_path / "a.safetensors", recipe, dialect, modules=modules)
    merged = made(attach_lora(recipe, read_lora(tmp_path / "a.safetensors"), 1.0, "high")[0])
    before = stored(recipe)
    changed = {name for name, tensor in merged.items() if difference(tensor, before[name]) > 0}
    assert changed == added.keys()
    assert all(difference(merged[name], before[name] + added[name]) <= 1e-6 for name in added)


@given(st.sampled_from(sorted(REAL_MODULES)))
def test_a_module_of_a_real_model_is_found_in_every_spelling(wan: str) -> None:
    diffusers = REAL_MODULES[wan]
    for spelled in (wan, diffusers, wan.replace(".", "_"), diffusers.replace(".", "_")):
        assert resolve(spelled) == diffusers


def test_no_two_modules_share_a_spelling() -> None:
    for names in (REAL_MODULES.keys(), set(REAL_MODULES.values())):
        assert len({name.replace(".", "_") for name in names}) == len(names)


PIECES = st.sampled_from(["blocks", "0", "7", "self_attn", "attn1", "q", "to_q", "norm3", "ffn", "2", "img"])


@given(st.lists(PIECES, min_size=1, max_size=5), st.sampled_from("._"))
def test_only_a_spelling_of_a_module_is_taken_for_it(pieces: list[str], joint: str) -> None:
    spelled = joint.join(pieces)
    known = {name.replace(".", "_") for pair in REAL_MODULES.items() for name in pair}
    assert (resolve(spelled) is not None) == (spelled.replace(".", "_") in known)


@pytest.mark.parametrize(
    ("key", "module", "part"),
    [
        ("diffusion_model.blocks.7.diff_m", "blocks.7.scale_shift_table", "diff"),
        ("lora_unet_blocks_7.diff_m", "blocks.7.scale_shift_table", "diff"),
        ("diffusion_model.head.diff_m", "scale_shift_table", "diff"),
        ("diffusion_model.blocks.7.norm3.diff_b", "blocks.7.norm2", "diff_b"),
        ("transformer.blocks.7.norm2.diff", "blocks.7.norm2", "diff"),
        ("lycoris_blocks_7_norm3.w_norm", "blocks.7.norm2", "diff"),
        ("lora_unet_head_head.lora_down.weight", "proj_out", "down"),
        ("lora_unet_blocks_39_cross_attn_k_img.alpha", "blocks.39.attn2.add_k_proj", "alpha"),
        ("diffusion_model.img_emb.proj.1.diff", "condition_embedder.image_embedder.ff.net.0.proj", "diff"),
        ("base_model.model.blocks.7.attn1.to_out.0.lora_B.style.bias", "blocks.7.attn1.to_out.0", "up_bias"),
        (
            "transformer.blocks.7.ffn.net.0.proj.lora_magnitude_vector",
            "blocks.7.ffn.net.0.proj",
            "row_magnitude",
        ),
        ("lycoris_blocks_7_ffn_0.dora_scale", "blocks.7.ffn.net.0.proj", "magnitude"),
        ("lycoris_time_projection_1.lokr_w2_a", "condition_embedder.time_proj", "lokr_w2_a"),
        ("transformer.blocks.7.attn1.to_q.lora.down.weight", "blocks.7.attn1.to_q", "down"),
        ("blocks.7.attn1.to_q_lora.up.weight", "blocks.7.attn1.to_q", "up"),
        ("diffusion_model.blocks.7.self_attn.q.lora.down", "blocks.7.attn1.to_q", "down"),
        ("transformer.blocks.7.attn1.to_q.lora.up", "blocks.7.attn1.to_q", "up"),
        ("transformer.blocks.7.attn1.to_q.lora_linear_layer.up.weight", "blocks.7.attn1.to_q", "up"),
        ("diffusion_model.blocks.7.self_attn.q.lora_A", "blocks.7.attn1.to_q", "down"),
        ("lora_unet_blocks_7_self_attn_q.lora_up", "blocks.7.attn1.to_q", "up"),
        ("lycoris_blocks_7_ffn_0.oft_blocks", "blocks.7.ffn.net.0.proj", "oft_blocks"),
        ("lycoris_blocks_7_ffn_2.a1.weight", "blocks.7.ffn.net.2", "a1"),
    ],
)
def test_a_key_says_module_and_part(key: str, module: str, part: str) -> None:
    found = read_key(key)
    assert found is not None
    assert (found.module, found.part, found.expert) == (module, part, "")


@pytest.mark.parametrize(
    ("prefix", "expert"),
    [
        ("transformer_2.", "low"),
        ("pipe.dit2.", "low"),
        ("diffusion_model.transformer_1.", "high"),
        ("diffusion_model.transformer_2.", "low"),
        ("high_noise_model.", "high"),
        ("low_noise.", "low"),
        ("diffusion_model_high.", "high"),
        ("low.diffusion_model.", "low"),
        ("lora_unet_high_", "high"),
        ("lora_wan_low_noise_", "low"),
        ("generator.model.", ""),
        ("student._fsdp_wrapped_module.", ""),
        ("lora_dit_", ""),
        ("transformer.", ""),
        ("pipe.dit.", ""),
    ],
)
def test_a_prefix_can_name_the_expert(prefix: str, expert: str) -> None:
    found = read_key(f"{prefix}blocks.0.attn1.to_q.lora_A.weight")
    assert found is not None
    assert found.expert == expert


@pytest.mark.parametrize(
    "key",
    [
        "",
        "alpha",
        "transformer.alpha",
        "lora_unet_.alpha",
        "lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight",
        "diffusion_model.vace_blocks.0.self_attn.q.lora_A.weight",
        "lora_unet_vace_blocks_0_self_attn_q.lora_down.weight",
        "text_encoder.blocks.0.self_attn.q.lora_A.weight",
        "other_blocks.0.self_attn.q.lora_A.weight",
        "diffusion_model.blocks.0.self_attn.qkv.lora_A.weight",
        "diffusion_model.blocks.00.self_attn.q.lora_A.weight",
        "diffusion_model.blocks.-1.self_attn.q.lora_A.weight",
        "blocks.0.self_attn.q.lora_A.weight.more",
        "blocks.0.self_attn.q.lora_A.bias",
        "blocks.0.self_attn.q_lora_A.weight",
        "blocks.0.self_attn.q.weight",
    ],
)
def test_other_keys_are_nothing_of_ours(key: str) -> None:
    assert read_key(key) is None


def test_only_the_image_path_of_wan_2_1_is_forgiven() -> None:
    forgiven = {theirs for theirs in REAL_MODULES.values() if is_image_path(theirs)}
    assert forgiven == {
        theirs for wan, theirs in REAL_MODULES.items() if "_img" in wan or wan.startswith("img_")
    }
