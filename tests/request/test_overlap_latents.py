from __future__ import annotations

from typing import Any

import pytest

from wan_duet.pipelines.loading.host_family import HostFacts, family_of_host
from wan_duet.pipelines.plan.families import FAMILIES
from wan_duet.pipelines.request import check, parse

A14B, CLIP, SMALL = (FAMILIES[name] for name in ("wan2.2-i2v-a14b", "wan2.1-i2v-14b", "wan2.2-ti2v-5b"))
PRO = [{"path": "SVI_Wan2.2-I2V-A14B_high_noise_lora_v2.0_pro.safetensors", "transformer": "high"}]


def told(runner: str = "local", image_family: Any = A14B, **values: Any) -> dict[str, str]:
    """Return {field: status} of what is said of the hand-over."""
    shots = [
        {"prompt": "a fox", "num_frames": 81},
        {"prompt": "it jumps", "join": "overlap 5", "num_frames": 81},
    ]
    request = parse("shots", {"shots": shots, **values})
    report = check(request, runner, family=FAMILIES["wan2.2-t2v-a14b"], image_family=image_family)
    names = ("overlap_latents", "shots[1].loras")
    told = {one.field: one.status for one in report.findings if one.field in names}
    return {field: status for field, status in told.items() if status != "supported"}


def test_it_is_for_wan_2_2_image_to_video_with_its_loras() -> None:
    assert told(overlap_latents="on", loras=PRO) == {}
    assert told(overlap_latents="on") == {"overlap_latents": "warning"}


@pytest.mark.parametrize("family", [CLIP, SMALL])
def test_other_models_are_refused(family: Any) -> None:
    assert told(overlap_latents="on", loras=PRO, image_family=family) == {"overlap_latents": "impossible"}


@pytest.mark.parametrize("runner", ["fal", "novita"])
def test_a_provider_refuses_it_by_name(runner: str) -> None:
    assert told(runner, overlap_latents="on", loras=PRO)["overlap_latents"] == "impossible"


def test_a_lora_whose_name_asks_for_it_is_a_hint() -> None:
    assert told(loras=PRO) == {"shots[1].loras": "warning"}
    assert told(loras=[{"path": "svi_shot.safetensors"}]) == {}


@pytest.mark.parametrize("join", ["continue", "overlap 5"])
def test_a_vace_model_of_comfyui_is_refused_with_what_works(join: str) -> None:
    vace, _ = family_of_host({"high": HostFacts("WAN21_Vace", channels=16, inputs=16, width=5120)})
    request = parse("shots", {"storyboard": f"17f: a fox | 17f {join}: it jumps"})
    report = check(request, family=FAMILIES["wan2.2-t2v-a14b"], image_family=vace)
    (refused,) = (one for one in report.findings if one.status == "impossible")
    assert (refused.field, refused.asked) == ("model", "WAN21_Vace")
    assert refused.reason.startswith("requests cannot run it; sample it with Wan Duet Two-Stage Sampler")
    assert "WanVaceToVideo, which takes the last frames of a video too), or load wan2.2-i2v" in refused.reason
