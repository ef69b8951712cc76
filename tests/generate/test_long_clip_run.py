"""A clip longer than the training, in windows and with RIFLEx, on the embedded model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.generate.local_receipt import read_receipt
from wan_duet.pipelines.generate.memory_estimate import estimate_memory
from wan_duet.pipelines.generate.repeated_run import repeat
from wan_duet.pipelines.loading.wan_model import WanModel, load_model
from wan_duet.pipelines.plan import Plan, make_plan
from wan_duet.pipelines.plan.context_windows import at_once
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request import check, t2v_request
from wan_duet.pipelines.video.output import sidecar

from .toy_runs import Make, latents

FEW = {
    "prompt": "a ball moving right", "num_frames": 33, "num_inference_steps": 3, "seed": 7,
    "aspect_ratio": "1:1", "interpolator_model": "none", "guidance_scale": 1.0, "guidance_scale_2": 1.0,
}  # fmt: skip
WINDOWS = {"context_frames": 17}


@pytest.fixture(scope="module")
def toy() -> WanModel:
    return load_model("toy")


def test_windows_change_the_result_stand_in_the_receipt_and_are_repeated(
    make: Make, toy: WanModel, tmp_path: Path
) -> None:
    plain, made = make(), make({**WINDOWS, "riflex": 4})
    assert latents(made) != latents(plain)
    assert "lossy_by_choice" not in plain.receipt
    assert made.receipt["lossy_by_choice"] == ["context_windows", "riflex"]
    assert made.receipt["plan"]["context_windows"]["length"] == 5
    assert made.receipt["plan"]["riflex"] == {"k": 4, "frames": 6}
    assert made.receipt["plan"]["forwards"] > plain.receipt["plan"]["forwards"] == 3
    receipt = read_receipt(sidecar(made.path))
    again = repeat(receipt, toy, out=tmp_path / "again.mp4", memory=DeviceMemory("cpu"), progress=Silent())
    assert latents(again) == latents(made)


def test_a_clip_that_fits_into_one_window_has_the_bits_of_a_run_without(make: Make) -> None:
    assert latents(make({"context_frames": 33, "context_stride": 2})) == latents(make())


def test_freenoise_changes_the_noise_of_windows(make: Make) -> None:
    assert latents(make({**WINDOWS, "freenoise": False})) != latents(make(WINDOWS))


def planned(model: WanModel, frames: int, local: dict[str, int]) -> Plan:
    request = t2v_request(**{**FEW, "num_frames": frames, "local": local})
    return make_plan(check(request, family=model.family).require(), model.family, 0)


def test_the_memory_of_a_forward_is_that_of_the_window_whatever_the_length_of_the_clip(toy: WanModel) -> None:
    def working(frames: int, local: dict[str, int]) -> int:
        plan = planned(toy, frames, local)
        shape = at_once(plan.latent_shape, plan.context_windows)
        estimate = estimate_memory(toy, DeviceMemory("cpu"), shape, plan.experts, sampling_only=True)
        return max(stage.working_bytes for stage in estimate.stages)

    assert working(33, WINDOWS) == working(161, WINDOWS) < working(161, {})


def test_windows_of_phases(make: Make) -> None:
    stages: list[dict[str, Any]] = [{"expert": "high", "steps": 2}, {"expert": "low", "steps": 1}]
    made, plain = make({**WINDOWS, "phases": stages}), make({**WINDOWS, "high_steps": 2})
    assert latents(made) == latents(plain)
    assert made.receipt["plan"]["forwards"] == plain.receipt["plan"]["forwards"]
    stages[1]["loras"] = [{"path": "toy/outlined"}]
    assert latents(make({**WINDOWS, "phases": stages})) != latents(plain)
