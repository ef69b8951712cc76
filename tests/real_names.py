"""Tiny weights with the names, folders and layouts of the published files that the templates select."""

from __future__ import annotations

from pathlib import Path

import tiny_files as tiny
import tiny_speech
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from wan_duet.pipelines.model_files.catalogue import read_catalogue

_RANK = 2
_MATRICES = [
    f"{part}.{side}" for part in ("self_attn", "cross_attn") for side in "qkvo"
]  # a LoRA's, per block


def write_real_names(folder: Path) -> None:
    """Every file that a template selects, below `folder` as below models/."""
    for name, file in read_catalogue().files.items():
        place = folder / file.folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        _write(place)


def _write(place: Path) -> None:
    name, seed = place.name, len(place.name)
    if name.endswith(".gguf"):  # the package gguf writes no Q4_K
        channels = 36 if "I2V" in name else 16
        tiny.save_gguf(place, tiny.wan_transformer_names(tiny.transformer(seed, channels)), "Q8_0")
    elif "lora" in name:
        tiny.save(place, _lora())
    elif "wav2vec" in name:
        tiny.save(place, tiny.cast(tiny_speech.wav2vec()[1], torch.float16))
    elif "umt5" in name:
        held, _ = tiny.scaled(tiny.text_encoder(), "scale_weight")
        tiny.save(place, {**held, "spiece_model": tiny.spiece_tensor(tiny.spiece_model())})
    elif "vae" in name:
        tiny.save(place, tiny.wan_vae_names(_small_vae("2.2" if "2.2" in name else "2.1")))
    elif "s2v" in name:
        speech = tiny_speech.weights()
        width = speech["text_embedding.0.weight"].shape[0]
        speech["text_embedding.0.weight"] = (
            torch.randn(width, tiny.TEXT) * 0.05
        )  # reads the same text encoder
        tiny.save(place, speech)
    elif name.startswith("wan2.2"):
        channels = 48 if "5B" in name else 36 if "i2v" in name else 16
        out = 48 if "5B" in name else 16
        expert = tiny.transformer(seed, channels, out, num_attention_heads=1, num_layers=1)
        named = tiny.wan_transformer_names(expert)
        tiny.save(
            place,
            tiny.cast(named, torch.float16) if "fp16" in name else tiny.scaled(named, "scale_weight")[0],
        )


def _small_vae(version: str) -> dict[str, Tensor]:
    """As narrow as a VAE can be, with half of its blocks: templates decode 640 x 640 pixels."""
    narrow = {"base_dim": 1, "num_res_blocks": 1, **({"decoder_base_dim": 1} if version == "2.2" else {})}
    with torch.device("meta"):
        network = AutoencoderKLWan.from_config({**tiny.VAES[version], **narrow})
    return tiny.randomise(network, seed=0)


def _lora() -> dict[str, Tensor]:
    """Of the one block of the experts above, in the names of the Lightning LoRAs."""
    width = 128
    weights: dict[str, Tensor] = {}
    for matrix in _MATRICES:
        name = f"diffusion_model.blocks.0.{matrix}"
        weights[f"{name}.lora_down.weight"] = torch.randn(_RANK, width) * 0.05
        weights[f"{name}.lora_up.weight"] = torch.randn(width, _RANK) * 0.05
        weights[f"{name}.alpha"] = torch.tensor(float(_RANK))
    return weights
