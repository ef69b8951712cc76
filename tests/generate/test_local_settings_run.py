"""Runs with the settings of `local`: each is what it says, and the receipt repeats it."""

from __future__ import annotations

from pathlib import Path

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.embedded.toy_model import embedded_loras
from wan_duet.pipelines.generate.local_receipt import read_receipt
from wan_duet.pipelines.generate.repeated_run import repeat
from wan_duet.pipelines.loading.wan_model import WanModel
from wan_duet.pipelines.plan import FAMILIES
from wan_duet.pipelines.plan.sigmas import linear_grid
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.video.output import sidecar

from .toy_runs import Make, latents

FEW = {
    "prompt": "a ball moving right", "num_frames": 5, "num_inference_steps": 3, "seed": 7,
    "aspect_ratio": "1:1", "interpolator_model": "none",
}  # fmt: skip
LORA = embedded_loras()["toy/outlined"]


def test_the_levels_of_a_solver_given_one_by_one_are_its_own(make: Make) -> None:
    solver = {"solver": "euler"}
    levels = list(linear_grid(3, 5.0).sigmas)
    given = make({**solver, "sigmas": levels}, num_inference_steps=27)
    assert latents(given) == latents(make(solver)) != latents(make())


def test_the_official_negative_prompt_is_the_text_itself(make: Make) -> None:
    text = FAMILIES["toy"].negative_prompt
    preset = make({"negative_preset": "official"})
    assert latents(preset) == latents(make(negative_prompt=text)) != latents(make())
    assert preset.receipt["request"]["local"] == {"negative_preset": "official"}


def test_a_lora_per_stage_is_two_entries_of_loras(make: Make) -> None:
    per_stage = [{"path": str(LORA), "high": 0.5, "low": 1.0}]
    entries = [
        {"path": str(LORA), "scale": scale, "transformer": name}
        for name, scale in (("high", 0.5), ("low", 1.0))
    ]
    made = make({"loras_per_stage": per_stage})
    assert latents(made) == latents(make(loras=entries)) != latents(make())
    assert made.receipt["request"]["local"]["loras_per_stage"][0]["path"] == LORA.name


def test_another_size_and_split_of_the_steps_are_repeated_from_the_receipt(
    make: Make, toy: WanModel, tmp_path: Path
) -> None:
    made = make({"width": 80, "height": 48, "high_steps": 1, "solver": "dpm++"}, aspect_ratio="16:9")
    assert made.receipt["plan"]["latent_shape"][2:] == [6, 10]
    assert made.receipt["plan"]["experts"] == ["high", "low", "low"]
    again = repeat(
        read_receipt(sidecar(made.path)), toy, out=tmp_path / "again.mp4", memory=DeviceMemory("cpu"),
        progress=Silent(),
    )  # fmt: skip
    assert latents(again) == latents(made)
