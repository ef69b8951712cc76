"""wav2vec 2.0: a sound becomes what the speech model hears, one vector per layer and moment.

The released model is wav2vec2-large-xlsr-53-english: 24 layers of 1024 numbers, 50 times a second.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import Wav2Vec2Config, Wav2Vec2Model

from ..errors import ModelError
from ..memory import Memory
from ..weights.checkpoint import Checkpoint, read_checkpoint
from ..weights.folder import read_json
from ..weights.footprint import weight_bytes
from ..weights.recipe import Recipe, materialise
from .parts import Slot, missing
from .shapes import Shapes, shape_of

__all__ = ["SAMPLE_RATE", "audio_encoder_recipe", "choose_audio_encoder", "hear", "hearing_bytes"]

SAMPLE_RATE = 16_000  # of every wav2vec 2.0
_LEAST_SAMPLES = 1600  # a tenth of a second; one vector needs 400
_STRIDES = (5, 2, 2, 2, 2, 2, 2)  # of the convolutions in every wav2vec 2.0; no tensor tells them
_HEAD = 64  # numbers per attention head, likewise
_PREFIX = "wav2vec2."
# Files hold what torch calls weight norm by its older or its newer names.
_NEWER = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
_OLDER = re.compile(r"(.+pos_conv_embed\.conv)\.(weight_[gv])")
_UNUSED = re.compile(r"(?:lm_head|quantizer|project_q|project_hid)\..+|masked_spec_embed")


def audio_encoder_recipe(path: Path, slot: str = "audio_encoder") -> Recipe:
    """The recipe of a wav2vec 2.0: a folder as Hugging Face has it, or its .safetensors file alone.

    Reads headers only. Raises ModelError naming `slot` when it is something else, or incomplete.
    """
    checkpoint = read_checkpoint(path)
    tensors = {}
    for key, source in checkpoint.tensors.items():
        name = key.removeprefix(_PREFIX)
        older = _OLDER.fullmatch(name)
        if not _UNUSED.fullmatch(name):
            tensors[f"{older[1]}.{_NEWER[older[2]]}" if older else name] = source
    shapes = {name: source.shape for name, source in tensors.items()}
    if "feature_projection.projection.weight" not in shapes:
        raise ModelError(
            f"{slot}: {path} is no wav2vec 2.0; wav2vec2-large-xlsr-53-english is needed, its folder or its "
            ".safetensors file"
        )
    config = _config(checkpoint, shapes)
    preprocessor = path / "preprocessor_config.json"
    if path.is_dir() and preprocessor.is_file():
        config["do_normalize"] = bool(read_json(preprocessor).get("do_normalize", True))
    recipe = Recipe.of(config, tensors)
    _require_fit(path, recipe)
    return recipe


def choose_audio_encoder(files: Sequence[Path], family: str, slot: Slot = "audio_encoder") -> Path:
    """The one of `files` that is a wav2vec 2.0. Raises ModelError when none is, or several are."""
    fitting = [file for file in files if _is_one(file, slot)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(file.name for file in fitting)
        raise ModelError(f"{slot}: {len(fitting)} files fit {family}: {names}; choose one of them")
    raise ModelError(missing(slot, family))


def _is_one(file: Path, slot: Slot) -> bool:
    try:
        audio_encoder_recipe(file, slot)
    except ModelError:
        return False
    return True


@torch.inference_mode()
def hear(
    recipe: Recipe,
    samples: npt.NDArray[np.float32],
    dtype: torch.dtype,
    memory: Memory,
    check: Callable[[], None],
) -> Tensor:
    """(layers + 1, moments, D) float32 on the CPU: every hidden state of a sound at SAMPLE_RATE, mono.

    The encoder is gone when this returns. Raises ModelError when the recipe does not fit.
    """
    network = _network(recipe.config)
    try:
        memory.reserve(
            weight_bytes(recipe, lambda _: dtype), "audio encoder", hearing_bytes(recipe.config, len(samples))
        )
        materialise(recipe, network, memory.device, lambda _: dtype, check)
        check()
        values = torch.from_numpy(_prepared(samples, recipe.config)).to(memory.device, dtype)
        states = network(values[None], output_hidden_states=True).hidden_states
        return torch.cat([state.float().cpu() for state in states])
    finally:
        del network
        memory.release()


def hearing_bytes(config: Mapping[str, Any], samples: int) -> int:
    """What hearing takes beside the weights: attention scores of one layer, float32, and the first
    convolution, whose vectors are a fifth as many as the samples.
    """
    moments = max(samples, _LEAST_SAMPLES) // 320
    heads = int(config["num_attention_heads"])
    scores = 4 * 2 * heads * moments * moments
    states = 4 * int(config["hidden_size"]) * moments * (int(config["num_hidden_layers"]) + 8)
    return scores + states + 4 * 3 * int(config["conv_dim"][0]) * samples // _STRIDES[0]


def _prepared(samples: npt.NDArray[np.float32], config: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    """Mean 0 and variance 1 over the sound, as transformers' feature extractor; too short a one ends silent."""
    if config.get("do_normalize", True):
        samples = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
    return np.pad(samples, (0, max(0, _LEAST_SAMPLES - len(samples)))).astype(np.float32)


def _network(config: Mapping[str, Any]) -> Wav2Vec2Model:
    with torch.device("meta"):
        network = Wav2Vec2Model(Wav2Vec2Config(**config))
    network.masked_spec_embed = None  # of training alone
    return network


def _config(checkpoint: Checkpoint, shapes: Shapes) -> dict[str, Any]:
    """The configuration that has these shapes; what no shape tells is the same in all of them."""

    def shape(name: str, dims: int) -> tuple[int, ...]:
        return shape_of(checkpoint.path, shapes, name, dims)

    convolutions = [
        shape(f"feature_extractor.conv_layers.{index}.conv.weight", 3) for index in range(len(_STRIDES))
    ]
    width = shape("feature_projection.projection.weight", 2)[0]
    positions = shape(f"encoder.pos_conv_embed.conv.{_NEWER['weight_v']}", 3)
    layers = {int(found[1]) for name in shapes if (found := re.match(r"encoder\.layers\.(\d+)\.", name))}
    stable = "feature_extractor.conv_layers.1.layer_norm.weight" in shapes
    return {
        "hidden_size": width,
        "num_hidden_layers": len(layers),
        "num_attention_heads": max(width // _HEAD, 1),
        "intermediate_size": shape("encoder.layers.0.feed_forward.intermediate_dense.weight", 2)[0],
        "conv_dim": [outputs for outputs, _, _ in convolutions],
        "conv_kernel": [kernel for _, _, kernel in convolutions],
        "conv_stride": list(_STRIDES),
        "conv_bias": "feature_extractor.conv_layers.0.conv.bias" in shapes,
        "num_conv_pos_embeddings": positions[2],
        "num_conv_pos_embedding_groups": width // positions[1],
        "feat_extract_norm": "layer" if stable else "group",
        "do_stable_layer_norm": stable,
    }


def _require_fit(path: Path, recipe: Recipe) -> None:
    wanted = {name: tuple(tensor.shape) for name, tensor in _network(recipe.config).state_dict().items()}
    wrong = sorted(
        name for name in {*wanted, *recipe.tensors}
        if name not in recipe.tensors or wanted.get(name) != recipe.tensors[name].shape
    )
    if wrong:
        raise ModelError(
            f"{path}: {', '.join(wrong[:3])} are missing, or of another shape than a wav2vec 2.0 has "
            f"({len(wrong)} in all); it is damaged, or another model"
        )
