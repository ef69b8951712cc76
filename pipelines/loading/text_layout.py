"""Converts UMT5 files with three kinds of names to recipes of transformers' UMT5EncoderModel.

Files for ComfyUI have Hugging Face's names and contain their tokenizer. Wan's own files have short names and
no tokenizer. llama.cpp has names of its own.
"""

from __future__ import annotations

import re
from typing import Any

from ..errors import ModelError
from ..networks.shapes import Shapes, require_shapes, shape_of
from ..networks.tokenizer import SPIECE
from ..weights.checkpoint import Checkpoint
from ..weights.quantised_tensor import unpadded
from ..weights.recipe import Recipe

__all__ = ["text_recipe"]

_BLOCK = "encoder.block"
_LAYERS = {  # Wan's name, llama.cpp's name -> Hugging Face's, within a block
    **{
        names: f"layer.0.SelfAttention.{part}"
        for part in "qkvo"
        for names in (f"attn.{part}", f"attn_{part}")
    },
    "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
    "attn_rel_b": "layer.0.SelfAttention.relative_attention_bias",
    "norm1": "layer.0.layer_norm",
    "attn_norm": "layer.0.layer_norm",
    "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
    "ffn_gate": "layer.1.DenseReluDense.wi_0",
    "ffn.fc1": "layer.1.DenseReluDense.wi_1",
    "ffn_up": "layer.1.DenseReluDense.wi_1",
    "ffn.fc2": "layer.1.DenseReluDense.wo",
    "ffn_down": "layer.1.DenseReluDense.wo",
    "norm2": "layer.1.layer_norm",
    "ffn_norm": "layer.1.layer_norm",
}
_ENDS = {
    "token_embedding": "shared",
    "token_embd": "shared",
    "norm": "encoder.final_layer_norm",
    "enc.output_norm": "encoder.final_layer_norm",
}
_NAME = re.compile(r"(?:enc\.blk|blocks)\.(\d{1,3})\.(.+)\.weight")
_INDEX = re.compile(rf"{re.escape(_BLOCK)}\.(\d{{1,3}})\.")
# transformers UMT5ForConditionalGeneration._keys_to_ignore_on_load_unexpected
_UNREAD = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
_DECODER = ("decoder.", "lm_head.")  # of the whole UMT5; Wan reads the encoder alone
_TIED = "encoder.embed_tokens.weight"  # the same table as `shared`; some files hold both, some only this


def text_recipe(checkpoint: Checkpoint) -> Recipe:
    """Return the recipe of a UMT5 encoder with any of the three kinds of names.

    Raises ModelError if the file is of another text encoder or incomplete.
    """
    tensors = {name: source for key, source in checkpoint.tensors.items() if (name := _name(checkpoint, key))}
    table = tensors.pop(_TIED, None)
    if table is not None:
        tensors.setdefault("shared.weight", table)
    shapes = {name: source.shape for name, source in tensors.items()}
    config = _config(checkpoint, shapes)
    tensors = unpadded(tensors, _shapes_of(config))
    require_shapes(checkpoint.path, "a UMT5 encoder", tensors, _shapes_of(config))
    left_out = sum(key.startswith(_DECODER) for key in checkpoint.tensors if key != _UNREAD)
    note = f"{left_out} tensors of UMT5's decoder are left out: Wan reads the encoder alone"
    return Recipe.of(config, tensors, (note,) if left_out else ())


def _name(checkpoint: Checkpoint, key: str) -> str | None:
    """Return the name in UMT5EncoderModel. None for what is not a part of the network."""
    if key in (SPIECE, _UNREAD) or key.startswith(_DECODER):
        return None
    found = _NAME.fullmatch(key)
    inner = _LAYERS.get(found[2]) if found else None
    if found and inner:
        return f"{_BLOCK}.{found[1]}.{inner}.weight"
    end = _ENDS.get(key.removesuffix(".weight"))
    if end is None and not key.startswith(("shared.", "encoder.")):
        raise ModelError(
            f"{checkpoint.path}: has the tensor {key}, which no UMT5 encoder has; choose UMT5-XXL"
        )
    return f"{end}.weight" if end else key


def _config(checkpoint: Checkpoint, shapes: Shapes) -> dict[str, Any]:
    """Return the configuration of transformers' UMT5EncoderModel with these shapes."""

    def shape(name: str) -> tuple[int, ...]:
        return shape_of(checkpoint.path, shapes, name, 2)

    vocabulary, width = shape("shared.weight")
    layers = {found[1] for name in shapes if (found := _INDEX.match(name))}
    attention = f"{_BLOCK}.0.layer.0.SelfAttention"
    buckets, heads = shape(f"{attention}.relative_attention_bias.weight")
    if len(layers) > 1 and f"{_BLOCK}.1.layer.0.SelfAttention.relative_attention_bias.weight" not in shapes:
        raise ModelError(
            f"{checkpoint.path}: is a T5 encoder, as Flux and SD3 use it; Wan needs UMT5, such as "
            "umt5_xxl_fp8_e4m3fn_scaled.safetensors"
        )
    return {
        "model_type": "umt5",
        "architectures": ["UMT5EncoderModel"],
        "vocab_size": vocabulary,
        "d_model": width,
        "d_kv": shape(f"{attention}.q.weight")[0] // heads,
        "d_ff": shape(f"{_BLOCK}.0.layer.1.DenseReluDense.wi_0.weight")[0],
        "num_layers": len(layers),
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
        # google/umt5-xxl config.json; its gated-gelu is the tanh approximation
        "relative_attention_max_distance": 128,
        "feed_forward_proj": "gated-gelu",
        "layer_norm_epsilon": 1e-6,
        "dropout_rate": 0.0,
        "is_encoder_decoder": False,
        "tie_word_embeddings": True,
        "pad_token_id": 0,
        "eos_token_id": 1,
    }


def _shapes_of(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    width, hidden, heads = config["d_model"], config["d_ff"], config["num_heads"]
    inner = heads * config["d_kv"]
    shapes: dict[str, tuple[int, ...]] = {
        "shared.weight": (config["vocab_size"], width),
        "encoder.final_layer_norm.weight": (width,),
    }
    for index in range(config["num_layers"]):
        attention, feed = (f"{_BLOCK}.{index}.layer.{layer}" for layer in (0, 1))
        for part in "qkv":
            shapes[f"{attention}.SelfAttention.{part}.weight"] = (inner, width)
        shapes[f"{attention}.SelfAttention.o.weight"] = (width, inner)
        bias = f"{attention}.SelfAttention.relative_attention_bias.weight"
        shapes[bias] = (config["relative_attention_num_buckets"], heads)
        shapes[f"{attention}.layer_norm.weight"] = shapes[f"{feed}.layer_norm.weight"] = (width,)
        for part in ("wi_0", "wi_1"):
            shapes[f"{feed}.DenseReluDense.{part}.weight"] = (hidden, width)
        shapes[f"{feed}.DenseReluDense.wo.weight"] = (width, hidden)
    return shapes
