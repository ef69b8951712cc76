"""Converts CLIP image encoders in Hugging Face's names to recipes of transformers' CLIPVisionModel."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from ..networks.shapes import require_shapes, shape_of
from ..weights.checkpoint import Checkpoint
from ..weights.folder import read_json
from ..weights.recipe import Recipe

__all__ = ["clip_recipe"]

_HEAD = 80  # numbers per head of ViT-H/14, the one that Wan reads with; shapes do not tell
_LAYER = re.compile(r"encoder\.layers\.(\d{1,3})\.")
_UNREAD = ("visual_projection.", "post_layernorm.", "logit_scale", "embeddings.position_ids")


def clip_recipe(checkpoint: Checkpoint) -> Recipe:
    """Return the recipe of a CLIP image encoder in Hugging Face's names.

    It is a file of ComfyUI's models/clip_vision, or the folder image_encoder of a model in diffusers layout.
    The last layer is left out, because Wan uses the output of the layer before it.

    Raises ModelError if the file is of another encoder or incomplete.
    """
    named = {key.removeprefix("vision_model."): source for key, source in checkpoint.tensors.items()}
    tensors = {name: source for name, source in named.items() if not name.startswith(_UNREAD)}
    path, shapes = checkpoint.path, {name: source.shape for name, source in tensors.items()}
    (width,) = shape_of(path, shapes, "embeddings.class_embedding", 1)
    patch = shape_of(path, shapes, "embeddings.patch_embedding.weight", 4)[-1]
    positions, _ = shape_of(path, shapes, "embeddings.position_embedding.weight", 2)
    inner, _ = shape_of(path, shapes, "encoder.layers.0.mlp.fc1.weight", 2)
    layers = len({found[1] for name in tensors if (found := _LAYER.match(name))})
    stated = read_json(path / "config.json") if (path / "config.json").is_file() else {}
    config = {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": int(stated.get("num_attention_heads", max(width // _HEAD, 1))),
        "image_size": math.isqrt(positions - 1) * patch,
        "patch_size": patch,
        "hidden_act": str(stated.get("hidden_act", "gelu")),
    }
    require_shapes(path, "this image encoder", tensors, _shapes_of(config, positions))
    last = f"encoder.layers.{layers - 1}."
    read = {name: source for name, source in tensors.items() if not name.startswith(last)}
    return Recipe.of({**config, "num_hidden_layers": layers - 1}, read)


def _shapes_of(config: Mapping[str, Any], positions: int) -> dict[str, tuple[int, ...]]:
    width, inner, patch = config["hidden_size"], config["intermediate_size"], config["patch_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.class_embedding": (width,),
        "embeddings.patch_embedding.weight": (width, 3, patch, patch),
        "embeddings.position_embedding.weight": (positions, width),
        "pre_layrnorm.weight": (width,),
        "pre_layrnorm.bias": (width,),
    }
    for index in range(config["num_hidden_layers"]):
        layer = f"encoder.layers.{index}"
        sizes = {
            **{f"self_attn.{part}_proj": (width, width) for part in ("q", "k", "v", "out")},
            "mlp.fc1": (inner, width),
            "mlp.fc2": (width, inner),
        }
        for name, size in sizes.items():
            shapes[f"{layer}.{name}.weight"], shapes[f"{layer}.{name}.bias"] = size, size[:1]
        for norm in ("layer_norm1", "layer_norm2"):
            shapes[f"{layer}.{norm}.weight"] = shapes[f"{layer}.{norm}.bias"] = (width,)
    return shapes
