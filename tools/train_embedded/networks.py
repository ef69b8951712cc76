"""The toy networks: the classes that real Wan weights use, with small numbers in their configs."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from transformers import UMT5Config, UMT5EncoderModel

from .image_start import start_as_image_vae
from .vocabulary import VOCABULARY_SIZE, build_tokenizer

__all__ = [
    "BOUNDARY",
    "IMAGE_BOUNDARY",
    "SHIFT",
    "build_tokenizer",
    "expert_config",
    "new_expert",
    "new_text_encoder",
    "new_vae",
    "text_encoder_config",
    "vae_config",
]

BOUNDARY = 0.875  # t2v boundary: official wan/configs/wan_t2v_A14B.py
IMAGE_BOUNDARY = 0.9  # official wan/configs/wan_i2v_A14B.py
SHIFT = 5.0  # the shift of the provider's text-to-video default, which the toy is trained and sampled with
TEXT_DIM = 128


def vae_config() -> dict[str, Any]:
    """The 2.1 layout; latents_mean and latents_std stay at the class's defaults: the official numbers."""
    return {"base_dim": 8, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_scales": []}


def expert_config(in_channels: int = 16) -> dict[str, Any]:
    """`in_channels` 36 is image-to-video: 16 noisy latents, 4 mask and 16 condition channels."""
    return {
        "patch_size": (1, 2, 2),
        "num_attention_heads": 2,
        "attention_head_dim": 128,
        "in_channels": in_channels,
        "out_channels": 16,
        "text_dim": TEXT_DIM,
        "freq_dim": 256,
        "ffn_dim": 768,
        "num_layers": 3,
        "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
        "eps": 1e-6,
    }


def text_encoder_config() -> dict[str, Any]:
    return {
        "vocab_size": VOCABULARY_SIZE,
        "d_model": TEXT_DIM,
        "d_kv": 32,
        "d_ff": 256,
        "num_layers": 2,
        "num_heads": 4,
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "dropout_rate": 0.0,
        "feed_forward_proj": "gated-gelu",
        "is_encoder_decoder": False,
        "use_cache": False,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "tie_word_embeddings": False,
    }


def new_vae(seed: int = 0) -> AutoencoderKLWan:
    torch.manual_seed(seed)
    return start_as_image_vae(AutoencoderKLWan(**vae_config()))


def new_expert(in_channels: int = 16, seed: int = 0) -> WanTransformer3DModel:
    torch.manual_seed(seed)
    return WanTransformer3DModel(**expert_config(in_channels))


def new_text_encoder(seed: int = 0) -> UMT5EncoderModel:
    torch.manual_seed(seed)
    return UMT5EncoderModel(UMT5Config(**text_encoder_config()))
