"""The networks that are built here are those of diffusers and transformers, which take long to import."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from tiny_transformer import CONFIG, PLAIN, SHAPE, own, relative_l2, stock
from tiny_vae import LAYOUTS, make_vae
from torch import nn
from transformers import UMT5Config, UMT5EncoderModel

from wan_duet.pipelines.networks.transformer import OwnTransformer, replace_transformer_forward
from wan_duet.pipelines.networks.transformer_config import TransformerConfig
from wan_duet.pipelines.networks.umt5 import Umt5Encoder
from wan_duet.pipelines.vae.decode import stream_decode
from wan_duet.pipelines.vae.encode import stream_encode
from wan_duet.pipelines.vae.forward import replace_vae_forward
from wan_duet.pipelines.vae.own_vae import OwnVae
from wan_duet.pipelines.vae.vae_config import VaeConfig

IMAGE = {"image_dim": 24, "added_kv_proj_dim": 128}


@pytest.mark.parametrize(
    "config", [{}, IMAGE, {**IMAGE, "pos_embed_seq_len": 18}, {"cross_attn_norm": False}, {"freq_dim": 32}]
)
@torch.inference_mode()
def test_the_transformer_has_the_bits_of_our_forward_on_that_of_diffusers(config: dict[str, Any]) -> None:
    theirs = stock(**config)
    ours = OwnTransformer(TransformerConfig.of({**CONFIG, **config, "unknown": 1}))
    ours.load_state_dict(theirs.state_dict())
    replace_transformer_forward(ours, PLAIN)
    generator = torch.Generator().manual_seed(1)
    images = 2 if "pos_embed_seq_len" in config else 1
    given = (
        torch.randn(SHAPE, generator=generator),
        torch.tensor([640.0]),
        torch.randn(1, 512, 16, generator=generator),
        torch.randn(images, 9, 24, generator=generator) if "image_dim" in config else None,
    )
    found = ours(*given)[0]
    assert torch.equal(found, own(theirs)(*given)[0])
    assert relative_l2(found, theirs(*given, return_dict=False)[0]) <= 1e-5


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda: OwnTransformer(TransformerConfig()), WanTransformer3DModel),
        (lambda: OwnVae(VaeConfig()), AutoencoderKLWan),
    ],
)
def test_a_network_of_which_nothing_is_stated_is_that_of_diffusers(
    ours: Callable[[], nn.Module], theirs: Callable[[], nn.Module]
) -> None:
    with torch.device("meta"):
        mine, stock_one = (
            {name: tensor.shape for name, tensor in network().state_dict().items()}
            for network in (ours, theirs)
        )
    assert mine == stock_one


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@torch.inference_mode()
def test_the_text_encoder_is_that_of_transformers(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    config = UMT5Config(d_model=64, d_ff=160, d_kv=16, num_heads=4, num_layers=3, vocab_size=300)
    theirs = UMT5EncoderModel(config).eval()
    ours = Umt5Encoder(config.to_dict())
    ours.load_state_dict(copy.deepcopy(theirs.state_dict()))
    for network in (theirs, ours):
        network.to(dtype)
        for name, parameter in network.named_parameters():
            if dtype == torch.float16 and ".wo." in name:
                parameter.data = parameter.data.float()
    for length in (1, 7, 200):  # past the farthest distance that has a bias of its own
        tokens = torch.randint(0, 300, (2, length))
        expected = theirs(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state
        assert relative_l2(ours(tokens).float(), expected.float()) <= 10 * torch.finfo(dtype).eps


@pytest.mark.parametrize("layout", LAYOUTS)
@torch.inference_mode()
def test_the_vae_has_the_bits_of_our_forward_on_that_of_diffusers(layout: str) -> None:
    theirs = make_vae(layout).requires_grad_(False)
    ours = OwnVae(VaeConfig.of({**theirs.config, "unknown": 1}))
    ours.load_state_dict(theirs.state_dict())
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(1, ours.config.z_dim, 3, 4, 6, generator=generator)
    frames = torch.rand(9, 3, 32, 64, generator=generator) * 2 - 1
    for vae in (ours, theirs):
        replace_vae_forward(vae)
    assert all(map(torch.equal, stream_decode(ours, latents), stream_decode(theirs, latents)))
    assert all(map(torch.equal, stream_encode(ours, iter(frames)), stream_encode(theirs, iter(frames))))


def test_a_vae_with_attention_elsewhere_is_refused() -> None:
    with pytest.raises(ValueError, match="attn_scales"):
        OwnVae(VaeConfig(attn_scales=[0.5]))


def test_a_text_encoder_with_another_feed_forward_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="feed_forward_proj is relu"):
        Umt5Encoder(UMT5Config(feed_forward_proj="relu").to_dict())
