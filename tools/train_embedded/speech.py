"""Writes the embedded model for speech: the real architecture, tiny, with random weights.

    python -m tools.train_embedded.speech [FOLDER]

The model generates noise and follows no sound. It shows that every step runs, from a sound file to a video
with sound. Every run of this script writes the same bytes. VAE, text encoder and tokenizer are those of the
embedded model beside it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2Model

from tools.train_embedded.networks import TEXT_DIM
from wan_duet.pipelines.embedded.toy_model import EMBEDDED, TOY_SPEECH
from wan_duet.pipelines.loading.s2v_layout import SPEECH_CLASS
from wan_duet.pipelines.networks.s2v import SpeechTransformer

_SEED = 20260101
_AUDIO_DIM, _AUDIO_LAYERS = 32, 2

TRANSFORMER: dict[str, Any] = {
    "_class_name": SPEECH_CLASS,
    "patch_size": [1, 2, 2],
    "num_attention_heads": 1,
    "attention_head_dim": 64,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": TEXT_DIM,
    "freq_dim": 64,
    "ffn_dim": 128,
    "num_layers": 2,
    "eps": 1e-6,
    "audio_dim": _AUDIO_DIM,
    "audio_states": _AUDIO_LAYERS + 1,
    "audio_tokens": 4,
    "audio_blocks": [0, 1],
    "cond_dim": 16,
}
# As the released encoder, but small.
AUDIO_ENCODER: dict[str, Any] = {
    "hidden_size": _AUDIO_DIM,
    "num_hidden_layers": _AUDIO_LAYERS,
    "num_attention_heads": 1,
    "intermediate_size": 64,
    "conv_dim": [16] * 7,
    "conv_bias": True,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
INDEX = {"_class_name": "WanSpeechPipeline", "wan_duet": {"family": TOY_SPEECH}}


def random_weights(network: nn.Module, seed: int) -> dict[str, Tensor]:
    """Normal numbers that keep the size of what goes through them, norms around one; float16."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, parameter in network.state_dict().items():
        deviation = min(0.1, 1 / max(1, parameter.shape[1:].numel()) ** 0.5)
        numbers = torch.randn(parameter.shape, generator=generator) * deviation
        around = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        weights[name] = (numbers + around).half()
    return weights


def write(folder: Path) -> None:
    transformer, hearing = folder / "transformer", folder / "audio_encoder"
    for place in (transformer, hearing):
        place.mkdir(parents=True, exist_ok=True)
    with torch.device("meta"):
        networks = SpeechTransformer(TRANSFORMER), Wav2Vec2Model(Wav2Vec2Config(**AUDIO_ENCODER))
    networks[1].masked_spec_embed = None  # of training alone
    save_file(random_weights(networks[0], _SEED), transformer / "diffusion_pytorch_model.safetensors")
    save_file(random_weights(networks[1], _SEED + 1), hearing / "model.safetensors")
    for file, content in {
        folder / "model_index.json": INDEX,
        transformer / "config.json": TRANSFORMER,
        hearing / "config.json": AUDIO_ENCODER,
    }.items():
        file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the random model for speech.")
    parser.add_argument("folder", nargs="?", type=Path, default=EMBEDDED[TOY_SPEECH], metavar="FOLDER")
    write(parser.parse_args().folder)
