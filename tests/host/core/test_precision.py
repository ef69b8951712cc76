"""Inside ComfyUI `auto` is what ComfyUI would take itself, flag by flag."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Answers = dict[str, dict[str, list[str]]]
FP32, BF16, FP16 = "float32", "bfloat16", "float16"

# By device and flag: transformer, VAE, text encoder. Core holds text encoders in float16 unless it is told
# otherwise.
TABLE = {
    ("CPU", "none"): (FP32, FP32, FP32),
    ("CPU", "bf16_unet"): (FP32, FP32, FP32),  # core holds the weights in it, and computes in float32
    ("CPU", "bf16_vae"): (FP32, BF16, FP32),
    ("RTX 3090", "none"): (BF16, BF16, FP16),
    ("RTX 3090", "fp16_unet"): (FP16, BF16, FP16),
    ("RTX 3090", "fp32_unet"): (FP32, BF16, FP16),
    ("RTX 3090", "fp8_e4m3fn_unet"): (BF16, BF16, FP16),
    ("RTX 3090", "fp16_vae"): (BF16, FP16, FP16),
    ("RTX 3090", "fp32_vae"): (BF16, FP32, FP16),
    ("RTX 3090", "bf16_text_enc"): (BF16, BF16, BF16),
    ("RTX 3090", "fp32_text_enc"): (BF16, BF16, FP32),
    ("RTX 3090", "fp8_e4m3fn_text_enc"): (BF16, BF16, BF16),
    ("RTX 3090", "force_fp16"): (FP16, BF16, FP16),
    ("RTX 3090", "force_fp32"): (FP32, FP32, FP32),
    ("RTX 2080", "none"): (FP16, FP16, FP16),
    ("RTX 2080", "bf16_unet"): (FP16, FP16, FP16),  # held in bfloat16, which the card only emulates
    ("RTX 2080", "bf16_vae"): (FP16, BF16, FP16),
    ("RTX 2080", "force_fp32"): (FP32, FP32, FP32),
    ("GTX 1660", "none"): (FP32, FP32, FP32),  # float16 gives NaN on this card
    ("GTX 1660", "fp16_vae"): (FP32, FP16, FP32),
    ("DirectML", "none"): (FP16, FP16, FP16),
}


@pytest.fixture(scope="module")
def answers(told_by: Callable[[str], Answers]) -> Answers:
    return told_by("precision.py")


@pytest.mark.parametrize(("device", "flag"), TABLE)
def test_auto_is_what_comfyui_computes_in(answers: Answers, device: str, flag: str) -> None:
    assert tuple(answers[device][flag]) == TABLE[device, flag]


@pytest.mark.parametrize("device", ["CPU", "RTX 3090"])
def test_a_type_that_our_networks_do_not_compute_in_is_refused_by_name(answers: Answers, device: str) -> None:
    message = "precision: auto, and ComfyUI's flags choose float64; choose fp32, bf16 or fp16"
    assert answers[device]["fp64_unet"][0] == message


def test_a_precision_that_was_chosen_stands_above_every_rule(answers: Answers) -> None:
    assert set(answers["chosen"].values()) == {"torch.bfloat16"}
