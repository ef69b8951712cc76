"""The networks of the embedded speech model: the real classes, with small numbers in their configs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2Model

from wan_duet.pipelines.loading.s2v_layout import SPEECH_CLASS
from wan_duet.pipelines.networks.s2v import SpeechTransformer

from .networks import TEXT_DIM

__all__ = ["AUDIO_ENCODER", "TRANSFORMER", "hidden_states", "new_audio_encoder", "new_speaker"]

_AUDIO_DIM, _AUDIO_LAYERS, _HEADS, _LAYERS = 32, 2, 2, 3

TRANSFORMER: dict[str, Any] = {
    "_class_name": SPEECH_CLASS,
    "patch_size": [1, 2, 2],
    "num_attention_heads": _HEADS,
    "attention_head_dim": 64,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": TEXT_DIM,
    "freq_dim": 64,
    "ffn_dim": 384,
    "num_layers": _LAYERS,
    "eps": 1e-6,
    "audio_dim": _AUDIO_DIM,
    "audio_states": _AUDIO_LAYERS + 1,
    "audio_tokens": 4,
    "audio_blocks": list(range(_LAYERS)),
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
_PAIRS = 10  # of numbers that rotate with rows, and with columns, in a head of 64


def new_audio_encoder(seed: int = 4) -> Wav2Vec2Model:
    torch.manual_seed(seed)
    network = Wav2Vec2Model(Wav2Vec2Config(**AUDIO_ENCODER))
    network.masked_spec_embed = None  # of training alone
    for index, layer in enumerate(network.feature_extractor.conv_layers):
        # Each layer is normalised: loudness passes only where the bias competes with the sound.
        nn.init.normal_(layer.conv.bias, std=1.0 if index == 0 else 0.5)
    return network


def hidden_states(encoder: Wav2Vec2Model, sounds: Tensor) -> Tensor:
    """Return (B, layers + 1, moments, D), the last one normalised. sounds: (B, samples), normalised."""
    heard = encoder(sounds, output_hidden_states=True)
    return torch.stack([*heard.hidden_states[:-1], heard.last_hidden_state], 1)


@torch.no_grad()
def new_speaker(opening: Tensor, seed: int = 0) -> SpeechTransformer:
    """Return a network that attends to its own place in every frame, and so to the picture, from the start.

    opening: (D,), the direction of the audio encoder's vectors in which a mouth opens; the first convolutions
             begin with multiples of it.

    Queries and keys begin with one constant part. Turned by the rotary tables, their product is largest
    where the positions are equal. In the first head time is left out of it, in the second rows and columns.
    """
    torch.manual_seed(seed)
    network = SpeechTransformer(TRANSFORMER)
    for layer in network.modules():  # which a run leaves empty for the numbers of its file
        if isinstance(layer, nn.Linear):
            nn.Linear.reset_parameters(layer)
        elif isinstance(layer, nn.Conv3d):
            nn.Conv3d.reset_parameters(layer)
    time = 64 - 4 * _PAIRS
    for block in network.blocks:
        attention = block.attn1
        for layer, norm in ((attention.to_q, attention.norm_q), (attention.to_k, attention.norm_k)):
            layer.weight.mul_(0.5)
            layer.bias.fill_(1)
            weight = norm.weight.view(_HEADS, 64)
            weight.fill_(1)
            weight[0, :time] = 0.1
            for first in (time, time + 2 * _PAIRS):
                weight[0, first : first + 2] = 3.5
            weight[1, time:] = 0.1
            weight[1, :2] = 3.5
        block.attn1.to_out[0].weight.mul_(0.5)
    hearing = network.casual_audio_encoder.encoder
    for layer in (hearing.conv1_local.conv, hearing.conv1_global.conv):
        layer.weight.mul_(0.5)
        layer.weight[:, :, 2] += 2 * torch.randn(len(layer.bias), 1) * opening
        nn.init.normal_(layer.bias)
    nn.init.normal_(network.trainable_cond_mask.weight, std=0.3)
    nn.init.zeros_(network.proj_out.weight)
    nn.init.zeros_(network.proj_out.bias)
    return network
