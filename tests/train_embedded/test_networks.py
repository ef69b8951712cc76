from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from diffusers import WanImageToVideoPipeline

from tools.train_embedded.clips import render
from tools.train_embedded.flow import draw_sigmas, noised, shifted, unshifted
from tools.train_embedded.fold import fold_latent_statistics, normalise, official_statistics
from tools.train_embedded.grammar import Scene
from tools.train_embedded.latents import condition_mask, given_frames
from tools.train_embedded.muon import orthogonal
from tools.train_embedded.networks import (
    BOUNDARY,
    expert_config,
    new_expert,
    new_text_encoder,
    new_vae,
    text_encoder_config,
    vae_config,
)
from tools.train_embedded.one_pass import decode_clip, encode_clip
from tools.train_embedded.padded_text import attend_padded, mute_padding
from tools.train_embedded.sentences import encode_prompts
from tools.train_embedded.vocabulary import build_tokenizer


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_everything_fits_in_48_megabytes_of_fp16():
    small = parameters(new_vae()) + parameters(new_text_encoder())
    experts = 2 * parameters(new_expert()) + 2 * parameters(new_expert(in_channels=36))
    assert parameters(new_expert()) <= 4_000_000
    assert parameters(new_expert(in_channels=36)) <= 4_000_000
    assert 2 * (small + experts) < 40 * 2**20


def test_the_vae_has_the_layout_and_the_numbers_of_wan_2_1():
    vae, config = new_vae(), vae_config()
    assert (config["z_dim"], config["dim_mult"], config["num_res_blocks"]) == (16, [1, 2, 4, 4], 2)
    assert vae.config.latents_mean[0] == -0.7571
    assert vae.config.latents_std[-1] == 1.9160
    assert vae.encode(torch.zeros(1, 3, 17, 64, 64)).latent_dist.mode().shape == (1, 16, 5, 8, 8)


def test_the_experts_are_wans_in_small():
    config = expert_config(36)
    assert (config["attention_head_dim"], config["patch_size"], config["in_channels"]) == (128, (1, 2, 2), 36)
    assert config["qk_norm"] == "rms_norm_across_heads"
    assert config["text_dim"] == text_encoder_config()["d_model"]


@pytest.mark.parametrize("frames", [1, 5, 17])
def test_one_pass_equals_the_chunked_vae(frames: int):
    vae = new_vae()
    pixels = torch.rand(1, 3, frames, 32, 48) * 2 - 1
    with torch.no_grad():
        chunked = vae.encode(pixels).latent_dist.parameters
        torch.testing.assert_close(encode_clip(vae, pixels), chunked, atol=1e-5, rtol=1e-4)
        decoded = decode_clip(vae, chunked[:, :16])
        torch.testing.assert_close(
            decoded.clamp(-1, 1), vae.decode(chunked[:, :16]).sample, atol=1e-5, rtol=1e-4
        )


def test_folding_changes_the_latents_and_not_the_pixels():
    vae = new_vae()
    pixels = torch.rand(2, 3, 5, 32, 32) * 2 - 1
    with torch.no_grad():
        before = vae.encode(pixels).latent_dist.mode()
        shown = vae.decode(before).sample
        flat = before.transpose(0, 1).flatten(1)
        fold_latent_statistics(vae, flat.mean(1), flat.std(1), posterior_std=0.1)
        after = vae.encode(pixels).latent_dist
        normal = normalise(after.mode(), vae).transpose(0, 1).flatten(1)
        torch.testing.assert_close(vae.decode(after.mode()).sample, shown, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(normal.mean(1), torch.zeros(16), atol=1e-3, rtol=0)
    torch.testing.assert_close(normal.std(1), torch.ones(16), atol=1e-3, rtol=0)
    torch.testing.assert_close(after.std / official_statistics(vae)[1], torch.full_like(after.std, 0.1))


def test_short_padded_text_equals_512_tokens():
    expert = new_expert().eval()
    mute_padding(expert)
    text = encode_prompts(new_text_encoder().eval(), build_tokenizer(), ["a red ball moving left", ""])
    x, timestep = torch.randn(2, 16, 2, 8, 8), torch.tensor([900.0, 950.5])
    with torch.no_grad():
        padded = torch.cat([text, torch.zeros(2, 480, text.shape[2])], dim=1)
        long = expert(x, timestep, padded, return_dict=False)[0]
        short = attend_padded(expert)(x, timestep, text, return_dict=False)[0]
    torch.testing.assert_close(short, long, atol=1e-5, rtol=1e-4)


def test_each_expert_draws_only_its_own_noise():
    assert math.isclose(shifted(np.array(unshifted(BOUNDARY))), BOUNDARY)
    high = draw_sigmas("high", BOUNDARY, 500, np.random.default_rng(0))
    low = draw_sigmas("low", BOUNDARY, 500, np.random.default_rng(0))
    assert high.min() >= BOUNDARY > low.max()
    assert high.max() <= 1
    assert low.min() >= 0


def test_the_velocity_leads_from_the_noise_to_the_clip():
    clean, noise = torch.randn(2, 16, 1, 2, 2), torch.randn(2, 16, 1, 2, 2)
    seen, velocity = noised(clean, noise, torch.tensor([0.25, 0.9]))
    for row, sigma in enumerate((0.25, 0.9)):
        torch.testing.assert_close(seen[row] - sigma * velocity[row], clean[row])


@pytest.mark.parametrize("last", [False, True])
def test_the_condition_is_what_the_stock_pipeline_builds(last: bool):
    vae = new_vae().eval()
    clip = render(Scene("star", "red", "left", "white"), 64, 64, 17, 0)
    pipe = WanImageToVideoPipeline(None, None, vae, None, transformer=new_expert(36))
    pixels = given_frames(clip[None], last)
    _, official = pipe.prepare_latents(
        pixels[:, :, 0],
        1,
        16,
        64,
        64,
        17,
        torch.float32,
        "cpu",
        last_image=pixels[:, :, -1] if last else None,
    )
    with torch.no_grad():
        latents = normalise(encode_clip(vae, pixels)[:, :16], vae)
    torch.testing.assert_close(official[0, :4], condition_mask(64, 64, last))
    torch.testing.assert_close(official[:, 4:], latents, atol=1e-5, rtol=1e-4)


def test_a_muon_step_has_equal_singular_values():
    values = torch.linalg.svdvals(orthogonal(torch.randn(24, 300)))
    assert 0.6 < values.min() <= values.max() < 1.3
