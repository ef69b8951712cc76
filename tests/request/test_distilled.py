"""Distilled weights: recognised by name, told when a request wastes them, and usable as presets."""

from __future__ import annotations

import hashlib
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from wan_duet.pipelines.embedded.toy_model import embedded_loras
from wan_duet.pipelines.generate.distilled_titles import distilled_title, titles_of
from wan_duet.pipelines.generate.local_abilities import local_abilities
from wan_duet.pipelines.generate.lora_findings import lora_findings
from wan_duet.pipelines.interpolation.found_interpolators import Interpolators
from wan_duet.pipelines.loading.wan_model import load_model
from wan_duet.pipelines.model_files.catalogue import ModelFile, published_as
from wan_duet.pipelines.plan import FAMILIES, make_plan
from wan_duet.pipelines.plan.presets import with_preset
from wan_duet.pipelines.request import KINDS, check, parse
from wan_duet.pipelines.request.distilled import DISTILLED_WEIGHTS, distilled_by_name, distilled_findings
from wan_duet.pipelines.weights.folder import read_component
from wan_duet.pipelines.weights.lora.find import LoraSources


@pytest.mark.parametrize(
    ("name", "preset"),
    [
        ("wan2.2_t2v_lightx2v_4steps_lora_v1.1_high_noise.safetensors", "lightning"),
        ("Wan2.2-I2V-A14B-4steps-lora-rank64-Seko-V1", "lightning"),
        ("wan2.2_i2v_A14b_high_noise_int8_lightx2v_4step.safetensors", "lightning"),
        ("Wan21_T2V_14B_lightx2v_cfg_step_distill_lora_rank32.safetensors", "lightx2v"),
        ("Wan2.1-T2V-14B-StepDistill-CfgDistill-Lightx2v", "lightx2v"),
        ("Wan_2_1_T2V_14B_rCM_lora_average_rank_148_bf16.safetensors", "rcm"),
        ("TurboWan2.2-I2V-A14B-high-720P", "rcm-i2v"),
        ("TurboDiffusion_Wan2.1_T2V", "rcm"),
        ("Wan22_TI2V_5B_FastWanFullAttn_lora_rank_128_bf16.safetensors", "fastwan"),
        ("FastWan2.1-T2V-14B-480P-Diffusers", "fastwan"),
    ],
)
def test_published_files_are_recognised_by_their_names(name: str, preset: str) -> None:
    known = distilled_by_name(name)
    assert known is not None
    assert known.preset == preset


@pytest.mark.parametrize(
    "name",
    [
        "arcm.safetensors",
        "style_high_noise",
        "SekoiaPark",
        "wan2.2_t2v_14B",
        "wan22_lightning_bolt",
        "distillery",
    ],
)
def test_other_names_are_not_distilled(name: str) -> None:
    assert distilled_by_name(name) is None
    assert list(distilled_findings({"num_inference_steps": 27}, [name])) == []


def test_every_entry_is_dated_and_says_how_to_ask_for_it() -> None:
    for known in DISTILLED_WEIGHTS:
        assert known.source
        assert known.as_of
        assert known.preset


def test_27_steps_with_guidance_are_counted_as_waste() -> None:
    request = parse("text-to-video-lora", {"prompt": "a", "loras": [{"path": "wan22_lightning.safetensors"}]})
    found = check(request, family=FAMILIES["wan2.2-t2v-a14b"]).findings
    (steps,) = (one for one in found if one.field == "num_inference_steps" and one.status == "warning")
    assert "27 of them waste up to 50 forwards" in steps.reason
    assert "--preset lightning has the settings of Lightning" in steps.reason
    values = {"prompt": "a", "loras": [{"path": "wan22_lightning.safetensors"}]}
    quick = parse("text-to-video-lora", with_preset("lightning", KINDS["text-to-video-lora"], None, values))
    told = check(quick, family=FAMILIES["wan2.2-t2v-a14b"]).findings
    assert not [one for one in told if one.status == "warning"]


@pytest.mark.parametrize(
    ("preset", "family", "sigma_max", "boundary"),
    [("rcm", "wan2.1-t2v-14b", 80, None), ("rcm-i2v", "wan2.2-i2v-a14b", 200, 0.9)],
)
def test_the_preset_of_rcm_has_its_schedule(
    preset: str, family: str, sigma_max: float, boundary: float | None
) -> None:
    kind = "image-to-video" if boundary else "text-to-video"
    given = {"prompt": "a", **({"image_url": "a.png"} if boundary else {})}
    request = parse(kind, with_preset(preset, KINDS[kind], FAMILIES[family], given))
    plan = make_plan(check(request, family=FAMILIES[family]).require(), FAMILIES[family], 0)
    tangents = [sigma_max, *(math.tan(angle) for angle in (1.5, 1.4, 1.0)), 0.0]
    assert plan.sigmas == pytest.approx([tangent / (1 + tangent) for tangent in tangents], abs=1e-6)
    assert (plan.solver, plan.forwards, plan.boundary) == ("dmd", 4, boundary)


@pytest.mark.parametrize("key", ["modelspec.title", "ss_output_name", "name", "finetuned_model"])
def test_a_header_tells_a_lora_whose_file_was_renamed(tmp_path: Path, key: str) -> None:
    title = {key: "Wan2.2-Lightning T2V"}
    save_file(load_file(embedded_loras()["toy/circling"]), tmp_path / "fast.safetensors", metadata=title)
    loras = [{"path": str(tmp_path / "fast.safetensors"), "transformer": "both"}]
    request = parse("text-to-video-lora", {"prompt": "a", "loras": loras})
    reasons = [one.reason for one in lora_findings(request, LoraSources())]
    assert reasons[0].startswith("Wan2.2-Lightning T2V is distilled for few steps")


def test_a_lora_that_was_trained_on_distilled_weights_is_not_distilled(tmp_path: Path) -> None:
    base = {"ss_sd_model_name": "wan2.2_t2v_lightning_4steps", "ss_output_name": "my_cat"}
    assert distilled_title(tmp_path / "my_cat.safetensors", base) == ""


def test_published_content_is_known_under_any_name(tmp_path: Path) -> None:
    file = tmp_path / "renamed.safetensors"
    file.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    known = {"lightning.safetensors": ModelFile("lightning.safetensors", "loras", "", 7, digest)}
    assert published_as(file, known) == "lightning.safetensors"
    file.write_bytes(b"WEIGHTS")  # of the same size
    assert published_as(file, known) == ""
    assert published_as(tmp_path / "gone", known) == ""
    assert published_as(file) == ""


def test_a_model_states_its_title_in_its_header_or_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "transformer"
    folder.mkdir(parents=True)
    file = folder / "diffusion_pytorch_model.safetensors"
    save_file({"a": torch.zeros(1)}, file, metadata={"modelspec.title": "Wan2.2 Lightning\x00"})
    assert titles_of(file) == ("Wan2.2 Lightning",)
    (folder / "config.json").write_text('{"_name_or_path": "FastVideo/FastWan2.1-T2V-14B"}')
    (tmp_path / "mine" / "model_index.json").write_text('{"_class_name": "WanDMDPipeline"}')
    save_file({"a": torch.zeros(2)}, file)
    assert titles_of(file) == ("FastVideo/FastWan2.1-T2V-14B", "WanDMDPipeline")
    assert distilled_by_name("WanDMDPipeline").preset == "fastwan"
    (folder / "config.json").write_text('{"_name_or_path": "/home/me/4steps/wan"}')
    (tmp_path / "mine" / "model_index.json").write_text("[")
    save_file({"a": torch.zeros(3)}, file)
    assert titles_of(file) == ()
    assert titles_of(tmp_path / "gone.gguf") == ()


def test_a_model_that_was_renamed_is_told_when_a_request_wastes_it(tmp_path: Path) -> None:
    model, folder = load_model("toy"), tmp_path / "mine"
    shutil.copytree(model.experts["high"].files[0].parent, folder)
    file = folder / "diffusion_pytorch_model.safetensors"
    save_file(load_file(file), file, metadata={"name": "wan2.2 4-step distill"})
    abilities = local_abilities(Interpolators(), replace(model, experts={"high": read_component(folder)}))
    request = parse("text-to-video", {"prompt": "a", "num_inference_steps": 27})
    told = [one.reason for one in check(request, family=model.family, abilities=abilities).findings]
    assert any(reason.startswith("wan2.2 4-step distill is distilled for few steps") for reason in told)
