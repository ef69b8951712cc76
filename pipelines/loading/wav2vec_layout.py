"""Identifies a wav2vec 2.0 by its tensors, and checks their shapes.

The released speech model uses wav2vec2-large-xlsr-53-english: 24 layers of width 1024.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..networks.shapes import Shapes, require_shapes, shape_of
from ..weights.checkpoint import Checkpoint, read_checkpoint
from ..weights.folder import read_json
from ..weights.recipe import Recipe
from .missing_files import PartName, missing

__all__ = ["audio_encoder_recipe", "choose_audio_encoder"]

_STRIDES = (5, 2, 2, 2, 2, 2, 2)  # of the convolutions in every wav2vec 2.0; no tensor tells them
_HEAD = 64  # numbers per attention head, likewise
_PREFIX = "wav2vec2."
# Files hold what torch calls weight norm by its older or its newer names.
_NEWER = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
_OLDER = re.compile(r"(.+pos_conv_embed\.conv)\.(weight_[gv])")
_UNUSED = re.compile(r"(?:lm_head|quantizer|project_q|project_hid)\..+|masked_spec_embed")


def audio_encoder_recipe(path: Path, slot: str = "audio_encoder") -> Recipe:
    """Return the recipe of a wav2vec 2.0: a folder as from Hugging Face, or only its .safetensors file.

    Reads headers only. Raises ModelError that names `slot` if it is something else, or incomplete.
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
            f"{slot}: {path} is not a wav2vec 2.0 model; give the folder or the .safetensors file of "
            "wav2vec2-large-xlsr-53-english"
        )
    config = _config(checkpoint, shapes)
    preprocessor = path / "preprocessor_config.json"
    if path.is_dir() and preprocessor.is_file():
        config["do_normalize"] = bool(read_json(preprocessor).get("do_normalize", True))
    require_shapes(path, "wav2vec 2.0", tensors, _shapes_of(config))
    return Recipe.of(config, tensors)


def choose_audio_encoder(files: Sequence[Path], family: str, slot: PartName = "audio_encoder") -> Path:
    """Return the one of `files` that is a wav2vec 2.0. Raises ModelError if none or several are."""
    fitting = [file for file in files if _is_one(file, slot)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(file.name for file in fitting)
        raise ModelError(f"{slot}: {len(fitting)} files fit {family}: {names}; choose one of them")
    raise ModelError(missing(slot, family))


def _is_one(file: Path, slot: PartName) -> bool:
    try:
        audio_encoder_recipe(file, slot)
    except ModelError:
        return False
    return True


def _config(checkpoint: Checkpoint, shapes: Shapes) -> dict[str, Any]:
    """Return the configuration with these shapes. Values that no shape shows are equal in all wav2vec 2.0."""

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


def _shapes_of(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every used parameter of transformers' Wav2Vec2Model for this configuration."""
    shapes: dict[str, tuple[int, ...]] = {}
    width, inner, convolutions = config["hidden_size"], config["intermediate_size"], config["conv_dim"]

    def linear(name: str, inputs: int, outputs: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (outputs, inputs), (outputs,)

    def norm(name: str, size: int) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (size,)

    inputs = 1
    for index, (outputs, kernel) in enumerate(zip(convolutions, config["conv_kernel"], strict=True)):
        layer = f"feature_extractor.conv_layers.{index}"
        shapes[f"{layer}.conv.weight"] = (outputs, inputs, kernel)
        if config["conv_bias"]:
            shapes[f"{layer}.conv.bias"] = (outputs,)
        if index == 0 or config["feat_extract_norm"] == "layer":
            norm(f"{layer}.layer_norm", outputs)
        inputs = outputs
    norm("feature_projection.layer_norm", inputs)
    linear("feature_projection.projection", inputs, width)
    positions, kernel = "encoder.pos_conv_embed.conv", config["num_conv_pos_embeddings"]
    shapes[f"{positions}.bias"] = (width,)
    shapes[f"{positions}.{_NEWER['weight_g']}"] = (1, 1, kernel)
    shapes[f"{positions}.{_NEWER['weight_v']}"] = (
        width,
        width // config["num_conv_pos_embedding_groups"],
        kernel,
    )
    norm("encoder.layer_norm", width)
    for index in range(config["num_hidden_layers"]):
        layer = f"encoder.layers.{index}"
        for part in "qkv":
            linear(f"{layer}.attention.{part}_proj", width, width)
        linear(f"{layer}.attention.out_proj", width, width)
        linear(f"{layer}.feed_forward.intermediate_dense", width, inner)
        linear(f"{layer}.feed_forward.output_dense", inner, width)
        norm(f"{layer}.layer_norm", width)
        norm(f"{layer}.final_layer_norm", width)
    return shapes
