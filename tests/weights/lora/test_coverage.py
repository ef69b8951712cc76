"""The report: what a file is, what it was made for, and how much of it an expert can use."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from wan_duet.pipelines.weights.lora.attach import attach_lora
from wan_duet.pipelines.weights.lora.coverage import LoraFacts, describe_lora
from wan_duet.pipelines.weights.lora.coverage_picture import coverage_picture
from wan_duet.pipelines.weights.lora.lora_file import read_lora

from .lora_files import DIALECTS, low_rank_file, tiny_expert


def facts(
    folder: Path, weights: dict[str, Tensor], metadata: dict[str, str] | None = None, name: str = "a"
) -> LoraFacts:
    file = folder / f"{name}.safetensors"
    save_file(weights, file, metadata=metadata)
    return describe_lora(read_lora(file))


def pair(module: str, width: int, *, into: int | None = None, rank: int = 1) -> dict[str, Tensor]:
    return {
        f"{module}.lora_A.weight": torch.zeros(rank, into or width),
        f"{module}.lora_B.weight": torch.zeros(width, rank),
    }


@pytest.mark.parametrize(
    ("name", "dialect"),
    [
        ("diffusers", "transformer., diffusers names, lora_A lora_B"),
        ("no prefix", "no prefix, diffusers names, lora_A lora_B"),
        ("lightning", "diffusion_model., Wan names, alpha lora_down lora_up"),
        ("musubi without alpha", "lora_unet_, Wan names, lora_down lora_up"),
        ("diffsynth", "no prefix, Wan names, lora_A.default lora_B.default"),
    ],
)
def test_the_dialect_says_how_keys_are_spelled(tmp_path: Path, name: str, dialect: str) -> None:
    recipe = tiny_expert(tmp_path)
    spoken = next(dialect for dialect in DIALECTS if dialect.name == name)
    low_rank_file(tmp_path / "a.safetensors", recipe, spoken)
    assert describe_lora(read_lora(tmp_path / "a.safetensors")).dialect == dialect


def test_ranks_alphas_and_scales_are_those_of_the_file(tmp_path: Path) -> None:
    weights = {
        **pair("blocks.0.self_attn.q", 8, rank=2),
        "blocks.0.self_attn.q.alpha": torch.tensor(1.0),
        **pair("blocks.0.self_attn.k", 8, rank=4),
        "blocks.0.self_attn.k.alpha": torch.tensor(4.0),
        "blocks.0.self_attn.k.diff_b": torch.zeros(8),
    }
    found = facts(tmp_path, weights)
    assert (found.ranks, found.alphas, found.scales) == ((2, 4), (1.0, 4.0), (0.5, 1.0))
    assert (found.kinds, found.keys) == (("LoRA", "difference"), 7)
    assert "rank 2 and 4, alpha 1 and 4, effective scale 0.5 and 1" in found.text()


@pytest.mark.parametrize(
    ("weights", "base"),
    [
        (pair("blocks.0.self_attn.q", 5120), "Wan 14B"),
        (pair("blocks.0.self_attn.q", 3072), "Wan 2.2 5B TI2V"),
        (pair("blocks.0.ffn.0", 8960, into=1536), "Wan 2.1 1.3B"),
        (pair("blocks.0.cross_attn.k_img", 5120), "Wan 2.1 14B I2V"),
        (pair("blocks.0.self_attn.q", 24), "Wan of width 24"),
        ({**pair("blocks.0.ffn.2", 5120, into=9), **pair("patch_embedding", 5120, into=144)}, "Wan 14B I2V"),
        ({"head.diff_m": torch.zeros(1, 2, 8)}, "unknown"),
    ],
)
def test_shapes_tell_the_base(tmp_path: Path, weights: dict[str, Tensor], base: str) -> None:
    assert facts(tmp_path, weights).base.name == base


@pytest.mark.parametrize(
    ("metadata", "base", "expert"),
    [
        (
            {"ss_sd_model_name": "wan2.2_t2v_high_noise_14B_fp16.safetensors"},
            ("2.2", "T2V"),
            ("high", "ss_sd_model_name"),
        ),
        ({"modelspec.architecture": "wan2.1-i2v-14b/lora"}, ("2.1", "I2V"), ("", "")),
        ({"ss_base_model_version": "wan22_14b_t2v"}, ("2.2", "T2V"), ("", "")),
        ({"ss_task": "t2v-A14B"}, ("2.2", "T2V"), ("", "")),
        ({"ss_output_name": "style_LowNoise"}, ("", ""), ("low", "ss_output_name")),
        ({"experts": "high,low"}, ("", ""), ("both", "experts")),
        ({"ss_tag_frequency": "high noise wan2.1 i2v"}, ("", ""), ("", "")),
        ({"ss_output_name": "low quality at high noise"}, ("", ""), ("high", "ss_output_name")),
        ({"ss_output_name": "high noise and low noise"}, ("", ""), ("", "")),
        ({"modelspec.title": "highway slowness"}, ("", ""), ("", "")),
    ],
)
def test_the_header_tells_version_task_and_expert(
    tmp_path: Path, metadata: dict[str, str], base: tuple[str, str], expert: tuple[str, str]
) -> None:
    found = facts(tmp_path, pair("blocks.0.self_attn.q", 5120), metadata)
    assert (found.base.version, found.base.task) == base
    assert (found.intended.expert, found.intended.evidence) == expert


@pytest.mark.parametrize(
    ("name", "expert"),
    [
        ("Wan2.2-I2V-A14B_style_HIGH", "high"),
        ("wan22 low noise style", "low"),
        ("slow_motion", ""),
        ("high_and_low", ""),
        ("low_angle_shot", ""),
        ("high_heels_v2", ""),
        ("LOW-POLY", ""),
        ("Low_Light_Scene", ""),
        ("l_amour", ""),
        ("wan22_style_HN_v2", "high"),
        ("wan22_style_LN", "low"),
        ("wan22_H_style", "high"),
        ("wan22-style-L", "low"),
        ("wan22_style_high_n", "high"),
        ("styleLowNoise", "low"),
        ("WAN2.2-HighNoise_SmoothMix-I2V", "high"),
        ("low_angle_shot_high_noise", "high"),
        ("Wan22_I2V_HIGH_Lightning_4steps_lora_rank128", "high"),
        ("style-low-e40", "low"),
        ("high_low_merged", ""),
    ],
)
def test_the_file_name_is_only_a_hint(tmp_path: Path, name: str, expert: str) -> None:
    found = facts(tmp_path, pair("blocks.0.self_attn.q", 5120), name=name)
    assert found.intended.expert == expert
    assert ("only a hint" in found.intended.evidence) == bool(expert)


def test_the_header_counts_before_the_file_name_and_shapes_before_both(tmp_path: Path) -> None:
    metadata = {"ss_sd_model_name": "wan2.1_t2v_14B_low_noise"}
    found = facts(tmp_path, pair("blocks.0.self_attn.q", 3072), metadata, name="wan2.1_i2v_14B_high")
    assert (found.base.name, found.intended.expert) == ("Wan 2.2 5B TI2V", "low")


def test_prefixes_tell_the_expert_for_certain(tmp_path: Path) -> None:
    weights = pair("transformer_2.blocks.0.attn1.to_q", 8)
    assert facts(tmp_path, weights, name="high").intended.expert == "low"


def test_the_wrong_expert_is_noted_and_the_report_is_json_without_folders(tmp_path: Path) -> None:
    recipe = tiny_expert(tmp_path)
    file = tmp_path / "a.safetensors"
    low_rank_file(file, recipe, metadata={"ss_output_name": "style low_noise"})
    _, report = attach_lora(recipe, read_lora(file), 0.5, "high")
    assert "seems to be made for the low-noise expert" in report.text()
    written = json.dumps(report.as_dict(), allow_nan=False)
    assert str(tmp_path) not in written
    assert "style" not in written  # nothing of the header but what it told
    assert json.loads(written)["keys"]["matched"] == len(read_lora(file).changes) * 2


def test_the_report_shows_which_blocks_are_changed(tmp_path: Path) -> None:
    recipe = tiny_expert(tmp_path)
    last = max(int(name.split(".")[1]) for name in recipe.tensors if name.startswith("blocks."))
    rows, columns = recipe.tensors[f"blocks.{last}.attn1.to_q.weight"].shape
    weights = {
        f"blocks.{last}.attn1.to_q.lora_A.weight": torch.zeros(1, columns),
        f"blocks.{last}.attn1.to_q.lora_B.weight": torch.zeros(rows, 1),
    }
    save_file(weights, tmp_path / "a<b>.safetensors")
    _, report = attach_lora(recipe, read_lora(tmp_path / "a<b>.safetensors"), 1.0, "high")
    matrices = [
        name
        for name, tensor in recipe.tensors.items()
        if name.startswith(f"blocks.{last}.") and name.endswith(".weight") and len(tensor.shape) > 1
    ]
    assert report.coverage.blocks == (*[0.0] * last, 1 / len(matrices))
    assert f"blocks 0-{last}: {'.' * last}- (# all" in report.summary()
    picture = ElementTree.fromstring(coverage_picture([report]))  # noqa: S314 - our own
    label, *cells = [item for item in picture if item.tag.endswith(("text", "rect"))]
    assert label.text == "a<b>.safetensors · high at 1"
    assert [float(cell.get("fill-opacity", "")) > 0.08 for cell in cells] == [*[False] * last, True]
