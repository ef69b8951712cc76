"""The tiny speech model behind speech.safetensors, in the names of Wan's own files, and what it is given.

Every number comes from seeded CPU generators, so maker and tests build the same model without storing it.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import tiny_files
import torch
from torch import Tensor
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

DIM, HEADS, FFN, LAYERS, TEXT_DIM, FREQ_DIM = 128, 1, 256, 4, 64, 256
HEARING = (0, 3)  # the blocks with an injector
TOKENS, AUDIO_DIM, STATES = 4, 64, 3
CLIP_FRAMES, STEPS, SHIFT, GUIDANCE, SEED = 40, 2, 3.0, 4.5, 11
WIDTH, HEIGHT = 128, 64
SECONDS = 4.0  # two clips
CLIP_SHAPE = (1, 16, CLIP_FRAMES // 4, HEIGHT // 8, WIDTH // 8)


def weights(seed: int = 1) -> dict[str, Tensor]:
    """Normal weights with a standard deviation of at most 0.05, norms around one."""
    generator = torch.Generator("cpu").manual_seed(seed)
    made: dict[str, Tensor] = {}

    def normal(*shape: int) -> Tensor:
        std = min(0.05, 1 / math.sqrt(math.prod(shape[1:]) or 1))
        return torch.randn(shape, generator=generator) * std

    def layer(name: str, outputs: int, *inputs: int) -> None:
        made[f"{name}.weight"], made[f"{name}.bias"] = normal(outputs, *inputs), normal(outputs)

    def attention(name: str) -> None:
        for part in "qkvo":
            layer(f"{name}.{part}", DIM, DIM)
        for norm in ("norm_q", "norm_k"):
            made[f"{name}.{norm}.weight"] = 1 + normal(DIM)

    layer("patch_embedding", DIM, 16, 1, 2, 2)
    layer("text_embedding.0", DIM, TEXT_DIM)
    layer("text_embedding.2", DIM, DIM)
    layer("time_embedding.0", DIM, FREQ_DIM)
    layer("time_embedding.2", DIM, DIM)
    layer("time_projection.1", 6 * DIM, DIM)
    for index in range(LAYERS):
        block = f"blocks.{index}"
        attention(f"{block}.self_attn")
        attention(f"{block}.cross_attn")
        made[f"{block}.norm3.weight"], made[f"{block}.norm3.bias"] = 1 + normal(DIM), normal(DIM)
        layer(f"{block}.ffn.0", FFN, DIM)
        layer(f"{block}.ffn.2", DIM, FFN)
        made[f"{block}.modulation"] = normal(1, 6, DIM)
    layer("head.head", 64, DIM)
    made["head.modulation"] = normal(1, 2, DIM)
    layer("cond_encoder", DIM, 16, 1, 2, 2)
    made["casual_audio_encoder.weights"] = 0.5 + normal(1, STATES, 1, 1)
    encoder = "casual_audio_encoder.encoder"
    layer(f"{encoder}.conv1_local.conv", DIM // 4 * TOKENS, AUDIO_DIM, 3)
    layer(f"{encoder}.conv1_global.conv", DIM // 4, AUDIO_DIM, 3)
    layer(f"{encoder}.conv2.conv", DIM // 2, DIM // 4, 3)
    layer(f"{encoder}.conv3.conv", DIM, DIM // 2, 3)
    layer(f"{encoder}.final_linear", DIM, DIM)
    made[f"{encoder}.padding_tokens"] = normal(1, 1, 1, DIM)
    for index in range(len(HEARING)):
        attention(f"audio_injector.injector.{index}")
        layer(f"audio_injector.injector_adain_layers.{index}.linear", 2 * DIM, DIM)
    made["trainable_cond_mask.weight"] = normal(3, DIM)
    for name, scale in (("proj", 1), ("proj_2x", 2), ("proj_4x", 4)):
        layer(f"frame_packer.{name}", DIM, 16, scale, 2 * scale, 2 * scale)
    return made


def wav2vec() -> tuple[Wav2Vec2Config, dict[str, Tensor]]:
    """A wav2vec 2.0 of the layout of the released one, in the names of its files."""
    config = Wav2Vec2Config(
        hidden_size=AUDIO_DIM, num_hidden_layers=STATES - 1, num_attention_heads=1, intermediate_size=96,
        conv_dim=[16] * 7, conv_bias=True, feat_extract_norm="layer", do_stable_layer_norm=True,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, vocab_size=8,
    )  # fmt: skip
    with torch.device("meta"):
        network = Wav2Vec2ForCTC(config)
    return config, tiny_files.randomise(network, seed=5)


def sound() -> npt.NDArray[np.float32]:
    """SECONDS at 16 kHz, mono: tones that come and go."""
    times = np.arange(int(SECONDS * 16000)) / 16000
    tones = np.sin(2 * np.pi * 220 * times) * np.sin(2 * np.pi * 1.5 * times)
    return (0.4 * tones + 0.2 * np.sin(2 * np.pi * 610 * times * (1 + times / 8))).astype(np.float32)


def picture() -> npt.NDArray[np.uint8]:
    """(HEIGHT, WIDTH, 3): slow colours."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    waves = [np.sin(rows / 9 + columns / 17 + shade) for shade in (0.0, 1.1, 2.3)]
    return np.round(np.stack(waves, -1) * 100 + 128).astype(np.uint8)


def draw(name: str, *shape: int) -> Tensor:
    """Normal numbers that only this name has."""
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(sum(name.encode())))


def text(name: str, tokens: int = 6) -> Tensor:
    """Prompt embeddings (1, tokens, TEXT_DIM), unpadded."""
    return draw(name, 1, tokens, TEXT_DIM)
