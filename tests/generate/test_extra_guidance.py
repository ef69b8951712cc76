"""Runs with NAG and CFG-Zero*: what changes, what the receipt says, and that it repeats them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_models import make_model

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.embedded.toy_model import toy_folder
from wan_duet.pipelines.errors import ModelError
from wan_duet.pipelines.generate.host_sampling import sample_on_host
from wan_duet.pipelines.generate.kept_latents import KeptLatents
from wan_duet.pipelines.generate.local_receipt import read_receipt
from wan_duet.pipelines.generate.local_run import run
from wan_duet.pipelines.generate.repeated_run import repeat
from wan_duet.pipelines.generate.result import Result
from wan_duet.pipelines.loading.wan_model import WanModel
from wan_duet.pipelines.plan.extra_guidance import ExtraGuidance
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request import parse, t2v_request
from wan_duet.pipelines.sampling.schedule import Sampling, Schedule
from wan_duet.pipelines.video.output import sidecar

from .toy_runs import Make, latents

FEW = {
    "prompt": "a ball moving right", "negative_prompt": "red", "num_frames": 17, "num_inference_steps": 3,
    "seed": 7, "aspect_ratio": "1:1", "interpolator_model": "none",
    "guidance_scale": 1.0, "guidance_scale_2": 1.0,
}  # fmt: skip
NAG = {"nag_scale": 8.0}


def test_nag_changes_the_result_stands_in_the_receipt_and_is_repeated(
    make: Make, toy: WanModel, tmp_path: Path
) -> None:
    plain, made = make(), make(NAG)
    assert latents(made) != latents(plain)
    assert "local" not in plain.receipt["request"]
    assert "lossy_by_choice" not in plain.receipt
    assert made.receipt["request"]["local"] == NAG
    assert made.receipt["lossy_by_choice"] == ["nag"]
    assert made.receipt["plan"]["forwards"] == 3
    again = repeat(
        read_receipt(sidecar(made.path)), toy, out=tmp_path / "again.mp4", memory=DeviceMemory("cpu"),
        progress=Silent(),
    )  # fmt: skip
    assert latents(again) == latents(made)
    assert again.receipt["request"] == made.receipt["request"]


def test_the_negative_prompt_of_nag_is_its_own_if_it_has_one(make: Make) -> None:
    red, blue = make(NAG), make({**NAG, "nag_negative_prompt": "blue"})
    assert latents(red) != latents(blue)
    assert latents(make({**NAG, "nag_negative_prompt": "red"}, negative_prompt="blue")) == latents(red)


def test_nag_on_one_stage_is_not_nag_on_both(make: Make) -> None:
    both, high = make(NAG), make({**NAG, "nag_scale_2": 1.0})
    low = make({"nag_scale_2": 8.0})
    assert len({latents(each) for each in (both, high, low)}) == 3


@pytest.mark.parametrize("residency", ["ring:1", "ring:3"])
def test_streamed_blocks_have_the_bits_of_resident_ones(make: Make, toy: WanModel, residency: str) -> None:
    resident, streamed = (replace(toy, residency=wanted) for wanted in ("resident", residency))
    assert latents(make(NAG, streamed)) == latents(make(NAG, resident))


def test_a_lora_acts_on_what_is_avoided_too(make: Make, toy: WanModel) -> None:
    lora = toy_folder() / "loras" / "circling.safetensors"
    assert latents(make(NAG, toy.with_lora(lora, 1.0, "high"))) != latents(make(NAG))
    assert latents(make(NAG, toy.with_lora(lora, 0.0, "high"))) == latents(make(NAG))


def test_kept_latents_of_another_negative_prompt_are_not_used(toy: WanModel, tmp_path: Path) -> None:
    kept = KeptLatents(tmp_path / "kept")

    def made(negative: str) -> Result:
        request = t2v_request(**FEW, local={**NAG, "nag_negative_prompt": negative})
        out = tmp_path / f"{negative}{len(list(tmp_path.iterdir()))}.mp4"
        return run(request, toy, out=out, memory=DeviceMemory("cpu"), progress=Silent(), kept=kept)

    made("red")
    assert "latents_reused" not in made("blue").receipt
    assert made("blue").receipt["latents_reused"]


def test_cfg_zero_star_and_its_zeroed_steps_are_repeated(make: Make, toy: WanModel, tmp_path: Path) -> None:
    guided = {"guidance_scale": 3.5, "guidance_scale_2": 4.0}
    star = {"cfg_zero_star": "both"}
    plain, starred, zeroed = (make(local, **guided) for local in (None, star, {**star, "cfg_zero_steps": 1}))
    assert len({latents(each) for each in (plain, starred, zeroed)}) == 3
    assert [each.receipt["plan"]["forwards"] for each in (plain, starred, zeroed)] == [6, 6, 4]
    assert zeroed.receipt["lossy_by_choice"] == ["cfg_zero_star"]
    again = repeat(
        read_receipt(sidecar(zeroed.path)), toy, out=tmp_path / "again.mp4", memory=DeviceMemory("cpu"),
        progress=Silent(),
    )  # fmt: skip
    assert latents(again) == latents(zeroed)


def test_cfg_zero_star_at_guidance_1_changes_no_bit(make: Make) -> None:
    made = make({"cfg_zero_star": "both", "cfg_zero_steps": 1})
    assert latents(made) == latents(make())
    assert "lossy_by_choice" not in made.receipt


@pytest.mark.parametrize("kind", ["small-text-to-video", "small-image-to-video"])
def test_the_5b_can_too(kind: str, tmp_path: Path) -> None:
    """With an image its frames have timesteps of their own."""
    from PIL import Image

    picture = tmp_path / "a.png"
    Image.new("RGB", (64, 64), (200, 20, 20)).save(picture)
    model = make_model("wan2.2-ti2v-5b", tmp_path)
    values = {
        "prompt": "a ball", "negative_prompt": "red", "num_frames": 17, "num_inference_steps": 2, "seed": 1,
        "guidance_scale": 1.0, "interpolator_model": "none",
    }  # fmt: skip
    if "image" in kind:
        values["image_url"] = str(picture)
    made = [
        run(
            parse(kind, {**values, "local": local}), model, out=tmp_path / f"{index}.mp4",
            memory=DeviceMemory("cpu"), progress=Silent(),
        )
        for index, local in enumerate((None, NAG))
    ]  # fmt: skip
    assert latents(made[0]) != latents(made[1])
    assert json.loads(sidecar(made[1].path).read_text())["lossy_by_choice"] == ["nag"]


def test_a_sampler_on_a_model_of_comfyui_refuses_both() -> None:
    schedule = Schedule((1.0, 0.0), (1000.0,), ("high",))
    extra = ExtraGuidance(nag_scale={"high": 5.0}, cfg_zero_star=("high",))
    nothing: Any = None
    with pytest.raises(ModelError, match="nag_scale, cfg_zero_star: a model of ComfyUI is guided by ComfyUI"):
        sample_on_host(nothing, Sampling(schedule, "euler", {"high": 2.0}, extra), nothing, nothing, Silent())
