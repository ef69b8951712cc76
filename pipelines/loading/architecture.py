"""Identifies a Wan transformer by the names and shapes of its tensors.

File names are unreliable, and a single file rarely has a configuration. Shapes do not distinguish high from
low noise, nor an expert of Wan 2.2 text to video from the transformer of Wan 2.1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from ..networks.shapes import Shapes, require_shapes, shape_of
from ..networks.transformer_config import TransformerConfig
from ..weights.checkpoint import Checkpoint
from ..weights.folder import read_component
from ..weights.module_names import to_diffusers, transformer_prefix
from ..weights.quantised_tensor import unpadded
from ..weights.recipe import Recipe
from ..weights.stored_tensors import Source, TensorSource
from .s2v_layout import SPEECH_MARK, is_speech, speech_config, speech_name, speech_shapes
from .unused_tensors import without_unused

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["families_of", "folder_recipe", "layout_of_tensors", "require_configured", "transformer_recipe"]

_HEAD_DIM = 128  # of every Wan model: dim / num_heads in Wan-Video/Wan2.2 wan/configs
_BARE = re.compile(r"(.*(?:modulation|emb_pos))")
_LEAF = re.compile(r"(.+)\.(weight|bias)")
_BLOCK = re.compile(r"blocks\.(\d{1,4})\.")

_NAME = "this Wan transformer"
_DEFAULTS: Mapping[str, Any] = asdict(TransformerConfig())
_COUNTS = [name for name, value in _DEFAULTS.items() if type(value) is int]
_LARGEST_COUNT = 2**15  # above every width of a Wan model

# Parts that only these models have. None of them can run without the code that belongs to the part.
_OTHER_MODELS = {
    "vace_blocks.": "VACE",
    "vace_patch_embedding.": "VACE",
    "motion_encoder.": "Wan 2.2 Animate",
    "face_adapter.": "Wan 2.2 Animate",
    "pose_patch_embedding.": "Wan 2.2 Animate",
    "control_adapter.": "Wan Fun camera control",
    "ref_conv.": "Wan Fun control",
    "audio_proj.": "an audio-driven Wan model",
    "fps_embedding.": "SkyReels V2",
}


def transformer_recipe(checkpoint: Checkpoint) -> Recipe:
    """Return the recipe of a Wan transformer in Wan's or diffusers' names, with any known prefix.

    Raises ModelError if it is another model, one that is not supported (its name is in the message), or
    incomplete.
    """
    used, notes = without_unused(checkpoint.tensors)
    tensors = _in_diffusers_names(replace(checkpoint, tensors=used))
    shapes = {name: source.shape for name, source in tensors.items()}
    config = _config(checkpoint, shapes)
    wanted = _shapes_of(config)
    tensors = unpadded(tensors, wanted)
    require_shapes(checkpoint.path, _NAME, tensors, wanted)
    return Recipe.of(config, tensors, notes)


def folder_recipe(folder: Path) -> Recipe:
    """Return the recipe of a transformer folder in diffusers layout, with the configuration in it."""
    stored = read_component(folder)
    used, notes = without_unused(stored.sources)
    return Recipe.of(stored.config, unpadded(used, _configured(folder, stored)), notes)


def require_configured(folder: Path, recipe: Recipe) -> None:
    """Raise ModelError unless the folder of a transformer has the tensors that its configuration states."""
    require_shapes(folder, _NAME, recipe.sources, _configured(folder, recipe), "its config.json")


def _configured(folder: Path, recipe: Recipe) -> dict[str, tuple[int, ...]]:
    config = {**_DEFAULTS, **recipe.config}
    for name in _COUNTS:
        if type(config[name]) is not int or not 0 < config[name] <= _LARGEST_COUNT:
            raise ModelError(f"{folder / 'config.json'}: {name} is {config[name]!r:.80}; a count is needed")
    return _shapes_of(config)


def layout_of_tensors(tensors: Mapping[str, Tensor]) -> Recipe:
    """As `transformer_recipe`, of a network that is loaded already."""
    name = Path("the connected MODEL")  # stands in errors where a file's name would
    sources = {key: TensorSource(tensor, name) for key, tensor in tensors.items()}
    return transformer_recipe(Checkpoint(name, sources))


def families_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the families that a transformer of this configuration can belong to, Wan 2.2 first.

    >>> families_of({"in_channels": 36, "image_dim": 1280})
    ('wan2.1-i2v-14b',)
    """
    channels, out = int(config.get("in_channels", 16)), int(config.get("out_channels", 16))
    clip = config.get("image_dim") is not None
    if is_speech(config):
        return ("wan2.2-s2v-14b",)
    heads = int(config.get("num_attention_heads", 40))
    if (channels, heads, config.get("num_layers")) == (16, 12, 30):  # wan/configs/wan_t2v_1_3B.py
        return ("wan2.1-t2v-1.3b",)
    table = {
        (16, 16, False): ("wan2.2-t2v-a14b", "wan2.1-t2v-1.3b" if heads <= 12 else "wan2.1-t2v-14b"),
        (36, 16, False): ("wan2.2-i2v-a14b",),
        (36, 16, True): (
            "wan2.1-i2v-14b" if config.get("pos_embed_seq_len") is None else "wan2.1-flf2v-14b",
        ),
        (48, 48, False): ("wan2.2-ti2v-5b",),
    }
    return table.get((channels, out, clip), ())


def _in_diffusers_names(checkpoint: Checkpoint) -> dict[str, Source]:
    keys = checkpoint.tensors
    prefix = transformer_prefix(keys) or ""
    tensors: dict[str, Source] = {}
    unknown: list[str] = []
    already = any(key.startswith(f"{prefix}condition_embedder.") for key in keys)
    of_speech = speech_name([key.removeprefix(prefix) for key in keys])
    for key, source in keys.items():
        own = key.removeprefix(prefix)
        name = own if already else _renamed(own) or of_speech(own)
        if name is None or not key.startswith(prefix):
            unknown.append(key)
        else:
            tensors[name] = source
    _refuse_others(checkpoint, unknown or list(tensors))
    if unknown:
        raise ModelError(
            f"{checkpoint.path}: has {len(unknown)} tensors that no Wan transformer has, such as "
            f"{', '.join(unknown[:3])}; the result would be wrong without them. Use a plain bf16, fp8 or "
            "GGUF version of this model"
        )
    return tensors


def _renamed(key: str) -> str | None:
    leaf = _LEAF.fullmatch(key)
    if leaf is None:
        return to_diffusers(key) if _BARE.fullmatch(key) else None
    module = to_diffusers(leaf[1])
    return module and f"{module}.{leaf[2]}"


def _refuse_others(checkpoint: Checkpoint, names: Collection[str]) -> None:
    for part, model in _OTHER_MODELS.items():
        example = next((name for name in names if part in f".{name}"), None)
        if example is not None:
            raise ModelError(
                f"{checkpoint.path}: is {model} (it has {example}), which is not supported; give a Wan 2.2 "
                "or 2.1 text-to-video, image-to-video or TI2V transformer"
            )


def _config(checkpoint: Checkpoint, shapes: Shapes) -> dict[str, Any]:
    """Return the configuration of the transformer with these shapes."""

    def shape(name: str, dims: int) -> tuple[int, ...]:
        return shape_of(checkpoint.path, shapes, name, dims)

    width, channels, *patch = shape("patch_embedding.weight", 5)
    embedder = "condition_embedder"
    image_norm, positions = f"{embedder}.image_embedder.norm1.weight", f"{embedder}.image_embedder.pos_embed"
    image_dim = shape(image_norm, 1)[0] if image_norm in shapes else None
    if width % _HEAD_DIM:
        raise ModelError(
            f"{checkpoint.path}: has width {width}; that of a Wan transformer is a multiple of {_HEAD_DIM}"
        )
    blocks = {int(found[1]) for name in shapes if (found := _BLOCK.match(name))}
    plain = {
        "_class_name": "WanTransformer3DModel",
        "patch_size": patch,
        "num_attention_heads": width // _HEAD_DIM,
        "attention_head_dim": _HEAD_DIM,
        "in_channels": channels,
        "out_channels": shape("proj_out.weight", 2)[0] // math.prod(patch),
        "text_dim": shape(f"{embedder}.text_embedder.linear_1.weight", 2)[1],
        "freq_dim": shape(f"{embedder}.time_embedder.linear_1.weight", 2)[1],
        "ffn_dim": shape("blocks.0.ffn.net.0.proj.bias", 1)[0],  # a quantised weight may be padded
        "num_layers": len(blocks),
        "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
        "eps": 1e-6,
        "image_dim": image_dim,
        "added_kv_proj_dim": None if image_dim is None else width,
        "pos_embed_seq_len": shape(positions, 3)[1] if positions in shapes else None,
        "rope_max_seq_len": 1024,
    }
    return speech_config(plain, shape, shapes) if f"{SPEECH_MARK}weights" in shapes else plain


def _shapes_of(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every parameter of the transformer with this configuration."""
    width = config["num_attention_heads"] * config["attention_head_dim"]
    image, ffn, added = config["image_dim"], config["ffn_dim"], config["added_kv_proj_dim"]
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, inputs: int, outputs: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (outputs, inputs), (outputs,)

    def norm(name: str, size: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (size,), (size,)

    patch = tuple(config["patch_size"])
    shapes["patch_embedding.weight"] = (width, config["in_channels"], *patch)
    shapes["patch_embedding.bias"] = (width,)
    embedder = "condition_embedder"
    for name, inputs in (("text_embedder", config["text_dim"]), ("time_embedder", config["freq_dim"])):
        linear(f"{embedder}.{name}.linear_1", inputs, width)
        linear(f"{embedder}.{name}.linear_2", width, width)
    linear(f"{embedder}.time_proj", width, 6 * width)
    if image is not None:
        norm(f"{embedder}.image_embedder.norm1", image)
        linear(f"{embedder}.image_embedder.ff.net.0.proj", image, image)
        linear(f"{embedder}.image_embedder.ff.net.2", image, width)
        norm(f"{embedder}.image_embedder.norm2", width)
    if image is not None and config["pos_embed_seq_len"] is not None:
        shapes[f"{embedder}.image_embedder.pos_embed"] = (1, config["pos_embed_seq_len"], image)
    for index in range(config["num_layers"]):
        block = f"blocks.{index}"
        for attention in ("attn1", "attn2"):
            for part in ("to_q", "to_k", "to_v", "to_out.0"):
                linear(f"{block}.{attention}.{part}", width, width)
            shapes[f"{block}.{attention}.norm_q.weight"] = (width,)
            shapes[f"{block}.{attention}.norm_k.weight"] = (width,)
        if added is not None:
            linear(f"{block}.attn2.add_k_proj", added, width)
            linear(f"{block}.attn2.add_v_proj", added, width)
            shapes[f"{block}.attn2.norm_added_k.weight"] = (width,)
        if config["cross_attn_norm"]:
            norm(f"{block}.norm2", width)
        linear(f"{block}.ffn.net.0.proj", width, ffn)
        linear(f"{block}.ffn.net.2", ffn, width)
        shapes[f"{block}.scale_shift_table"] = (1, 6, width)
    linear("proj_out", width, config["out_channels"] * math.prod(patch))
    shapes["scale_shift_table"] = (1, 2, width)
    return shapes | speech_shapes(config) if is_speech(config) else shapes
