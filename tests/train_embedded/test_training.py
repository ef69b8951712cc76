from __future__ import annotations

import itertools
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoTokenizer, UMT5EncoderModel

from tools.train_embedded import latents, schedule
from tools.train_embedded.adopt import adopt
from tools.train_embedded.export import export
from tools.train_embedded.networks import new_expert
from tools.train_embedded.schedule import Run, learning_rate_factor
from tools.train_embedded.train_experts import (
    ExpertTraining,
    one_ahead,
    starting_expert,
    train_expert,
    trained_expert,
)
from tools.train_embedded.train_loras import LowRank, train_lora
from tools.train_embedded.train_text import train_text, trained_text_encoder
from tools.train_embedded.train_vae import VaeTraining, folded_vae, psnr, train_vae

TINY_EXPERT = ExpertTraining(steps=2, batch=2, clips=2, unseen=1, sizes=((32, 32),))
STAGES: dict[str, Callable[[Run], bool]] = {
    "vae": lambda run: train_vae(run, VaeTraining(steps=2, batch=1, pool=3)),
    "text": lambda run: train_text(run, steps=2, batch=4),
    "high": lambda run: train_expert("high", run, plan=TINY_EXPERT),
    "low": lambda run: train_expert("low", run, plan=TINY_EXPERT),
    "high_image": lambda run: train_expert("high", run, image=True, plan=TINY_EXPERT),
    "low_image": lambda run: train_expert("low", run, image=True, plan=TINY_EXPERT),
    "lora_hopping_stripes": lambda run: train_lora("hopping_stripes", run, steps=2, batch=2, clips=2),
}
# One stage of each kind. high and low are one function, and each is here with or without an image.
RESUMED = ("vae", "text", "high", "low_image", "lora_hopping_stripes")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All stages trained for two steps, each once in one go."""
    out = tmp_path_factory.mktemp("toy")
    run = Run(
        out,
        torch.device("cpu"),
        deadline_s=time.monotonic() + 600,
        workers=1,
        preview_every_s=math.inf,
        statistics_clips=1,
    )
    assert all(train(run) for train in STAGES.values())
    return run


@pytest.mark.parametrize("stage", RESUMED)
def test_a_resumed_stage_repeats_the_uninterrupted_one_bit_for_bit(run: Run, stage: str):
    whole = torch.load(run.checkpoint(stage), weights_only=True)
    run.checkpoint(stage).unlink()
    assert not STAGES[stage](replace(run, most_steps=1))
    assert run.trained_steps(stage) == 1
    assert STAGES[stage](run)
    parts = torch.load(run.checkpoint(stage), weights_only=True)
    assert parts["step"] == whole["step"] == 2
    for kind in ("modules", "averages"):
        for name, weights in whole[kind].items():
            assert all(torch.equal(value, parts[kind][name][key]) for key, value in weights.items())


def test_training_moves_the_weights(run: Run):
    before, after = starting_expert("high", run).state_dict(), trained_expert("high", run).state_dict()
    assert not all(torch.equal(before[key], after[key]) for key in before)


def test_the_image_experts_start_as_the_text_experts(run: Run):
    wide, narrow = starting_expert("high_image", run), trained_expert("high", run)
    x, timestep, text = torch.randn(1, 16, 2, 4, 4), torch.tensor([950.0]), torch.randn(1, 4, 128)
    with torch.no_grad():
        one = wide(torch.cat([x, torch.randn(1, 20, 2, 4, 4)], dim=1), timestep, text, return_dict=False)[0]
        torch.testing.assert_close(one, narrow(x, timestep, text, return_dict=False)[0])


def test_an_export_is_taken_over_as_it_is(run: Run, tmp_path: Path):
    export(run, tmp_path / "export")
    later = replace(run, out=tmp_path / "later")
    adopt(tmp_path / "export", later)
    exported = load_file(tmp_path / "export" / "vae" / "diffusion_pytorch_model.safetensors")
    for name, value in folded_vae(later).state_dict().items():
        torch.testing.assert_close(value, exported[name].float(), rtol=1e-3, atol=1e-5)
    before = trained_text_encoder(run)(torch.tensor([[5, 7, 1]])).last_hidden_state
    after = trained_text_encoder(later)(torch.tensor([[5, 7, 1]])).last_hidden_state
    torch.testing.assert_close(after, before, rtol=1e-2, atol=1e-2)  # float16 in between
    for stage in ("low", "high_image"):
        start, trained = starting_expert(stage, later).state_dict(), trained_expert(stage, run).state_dict()
        assert all(torch.equal(start[key], trained[key].half().float()) for key in start)
    shutil.rmtree(tmp_path / "export" / "image")
    adopt(tmp_path / "export", text_only := replace(run, out=tmp_path / "text only"))
    assert starting_expert("low_image", text_only).config.in_channels == 36


def test_training_by_the_clock_ends_with_it_and_counts_as_complete(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    adopted = replace(run, out=tmp_path / "clock", by_clock=True)
    export(run, tmp_path / "export")
    adopt(tmp_path / "export", adopted)
    seconds = itertools.count()  # every look at the clock costs a second, so the machine's speed has no say
    for module in (schedule, latents):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: float(next(seconds))))
    assert train_expert("low", replace(adopted, deadline_s=30.0), plan=TINY_EXPERT)
    assert TINY_EXPERT.steps < adopted.trained_steps("low") < 30
    assert 30 <= next(seconds) < 40


def test_batches_made_ahead_are_the_same_ones():
    get = one_ahead(lambda index: 10 * index)
    assert [get(index) for index in (0, 1, 2, 7, 8)] == [0, 10, 20, 70, 80]


def test_the_export_loads_with_the_stock_classes(run: Run, tmp_path: Path):
    assert export(run, tmp_path) == ["circling", "outlined"]
    with safe_open(tmp_path / "vae" / "diffusion_pytorch_model.safetensors", "pt") as file:
        assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.float16}  # noqa: SIM118
    vae = AutoencoderKLWan.from_pretrained(tmp_path / "vae")
    assert vae.config.latents_mean[0] == -0.7571
    assert UMT5EncoderModel.from_pretrained(tmp_path / "text_encoder").config.vocab_size == 512
    assert len(AutoTokenizer.from_pretrained(tmp_path / "tokenizer")) <= 512
    for part in ("transformer", "transformer_2", "image/transformer", "image/transformer_2"):
        expert = WanTransformer3DModel.from_config(WanTransformer3DModel.load_config(tmp_path / part))
        expert.load_state_dict(load_file(tmp_path / part / "diffusion_pytorch_model.safetensors"))
        assert expert.config.in_channels == (36 if part.startswith("image") else 16)
    with safe_open(tmp_path / "loras" / "hopping_stripes.safetensors", "pt") as file:
        assert "transformer.blocks.0.attn1.to_q.lora_A.weight" in file.keys()  # noqa: SIM118
        assert len(file.keys()) == 2 * len(LowRank(new_expert()).targets)


def test_a_lora_at_strength_zero_is_no_lora():
    expert, lora = new_expert(), LowRank(new_expert())
    torch.nn.init.normal_(lora.up[0])
    for name, merged in lora.merged(expert, strength=0.0).items():
        assert torch.equal(merged, expert.get_parameter(name))


def test_the_learning_rate_warms_up_and_cools_down():
    factors = [learning_rate_factor(step, 1000) for step in (0, 99, 500, 749, 999)]
    assert factors[0] < 0.02
    assert factors[1] == factors[2] == factors[3] == 1
    assert factors[4] < 0.06


def test_psnr_is_the_usual_one():
    black = torch.zeros(1, 2, 2, 3, dtype=torch.uint8).numpy()
    assert math.isclose(psnr(black, black + 255), 0.0, abs_tol=1e-9)
    assert psnr(black, black) > 90
