"""wav2vec 2.0, the audio encoder of the speech model: one vector per layer and moment of the sound.

The released model is wav2vec2-large-xlsr-53-english: 24 layers of 1024 numbers, 50 times a second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..device.memory import Memory
from ..weights.footprint import weight_bytes
from ..weights.recipe import Recipe, materialise

__all__ = ["SAMPLE_RATE", "audio_encoder_bytes", "audio_hidden_states"]

SAMPLE_RATE = 16_000  # of every wav2vec 2.0
_LEAST_SAMPLES = 1600  # a tenth of a second; one vector needs 400


@torch.inference_mode()
def audio_hidden_states(
    recipe: Recipe,
    samples: npt.NDArray[np.float32],
    dtype: torch.dtype,
    memory: Memory,
    check: Callable[[], None],
) -> Tensor:
    """Return the hidden states of all layers, (layers + 1, moments, D), float32, CPU.

    samples: (N,) mono at SAMPLE_RATE.

    The encoder is freed before this returns. Raises ModelError if the recipe does not fit the network.
    """
    network = _network(recipe.config)
    try:
        memory.reserve(
            weight_bytes(recipe, lambda _: dtype),
            "audio encoder",
            audio_encoder_bytes(recipe.config, len(samples)),
        )
        materialise(recipe, network, memory.device, lambda _: dtype, check)
        check()
        values = torch.from_numpy(_prepared(samples, recipe.config)).to(memory.device, dtype)
        heard = network(values[None], output_hidden_states=True)
        # The official code asks for transformers 4, which normalises the last state; 5.24 does not.
        states = (*heard.hidden_states[:-1], heard.last_hidden_state)
        return torch.cat([state.float().cpu() for state in states])
    finally:
        del network
        memory.release()


def audio_encoder_bytes(config: Mapping[str, Any], samples: int) -> int:
    """Return the bytes the encoder needs beside its weights, for so many samples.

    They are the float32 attention scores of one layer, the hidden states of all layers, and the first
    convolution, which makes a fifth as many vectors as there are samples.
    """
    moments = max(samples, _LEAST_SAMPLES) // 320
    heads = int(config["num_attention_heads"])
    scores = 4 * 2 * heads * moments * moments
    states = 4 * int(config["hidden_size"]) * moments * (int(config["num_hidden_layers"]) + 8)
    return scores + states + 4 * 3 * int(config["conv_dim"][0]) * samples // int(config["conv_stride"][0])


def _prepared(samples: npt.NDArray[np.float32], config: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    """Mean 0 and variance 1, as transformers' feature extractor makes them; too short a sound ends silent."""
    if config.get("do_normalize", True):
        samples = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
    return np.pad(samples, (0, max(0, _LEAST_SAMPLES - len(samples)))).astype(np.float32)


def _network(config: Mapping[str, Any]) -> Any:
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    with torch.device("meta"):
        network = Wav2Vec2Model(Wav2Vec2Config(**config))
    network.masked_spec_embed = None  # of training alone
    return network
