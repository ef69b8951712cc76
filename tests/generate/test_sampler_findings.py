"""The samplers of the building blocks say what a run would say of the same model and settings."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import torch

from wan_duet.pipelines.embedded.toy_model import embedded_loras
from wan_duet.pipelines.generate.sampler_findings import sampler_findings
from wan_duet.pipelines.loading.wan_model import WanModel

UNGUIDED = {"guidance_scale": 1.0, "guidance_scale_2": 1.0}
GUIDED = {"guidance_scale": 3.5, "guidance_scale_2": 4.0}


def said(model: WanModel, steps: int = 4, frames: int = 5, **guidance: float) -> list[str]:
    found = sampler_findings(model, steps, guidance or UNGUIDED, frames, torch.device("cpu"))
    return [finding.line() for finding in found]


def test_a_lora_on_the_other_expert_is_told(toy: WanModel) -> None:
    file = embedded_loras()["toy/outlined"]
    (line,) = said(toy.with_lora(file, 1.0, "high"))
    assert line.startswith("warning model: outlined.safetensors is on the high-noise expert, but seems to be")
    assert said(toy.with_lora(file, 1.0, "low")) == said(toy.with_lora(file, 0.0, "high")) == []


def test_settings_that_do_not_suit_distilled_weights_are_told_by_their_inputs(
    toy: WanModel, tmp_path: Path
) -> None:
    file = shutil.copy(embedded_loras()["toy/circling"], tmp_path / "x_lightning_4steps.safetensors")
    model = toy.with_lora(Path(file), 1.0, "high")
    assert said(model) == []
    lines = said(model, steps=27, **GUIDED)
    assert [line.split(":")[0] for line in lines] == [
        "warning steps",
        "warning guidance_scale",
        "warning guidance_scale_2",
    ]
    assert said(toy, steps=27, **GUIDED) == []


def test_a_clip_that_is_longer_than_the_trained_ones_is_told(toy: WanModel) -> None:
    assert said(toy, frames=5) == []
    (line,) = said(toy, frames=6)
    assert line.startswith("warning latent: the model was trained on 17 frames")


def test_what_precision_stored_does_is_told(toy: WanModel) -> None:
    (line,) = said(replace(toy, precision="stored"))
    assert line.startswith("adjusted precision: nothing computes on stored numbers here")
