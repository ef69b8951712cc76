"""Separates the parts of a model that lie in one file, as ComfyUI's *Save Checkpoint* writes them.

    model.diffusion_model.blocks.0. ...            the transformer
    vae.decoder. ...                               or first_stage_model.
    text_encoders.umt5xxl.transformer.shared. ...  and text_encoders.spiece_model, its tokenizer;
                                                   or cond_stage_model.transformer., or text_encoder.
    vision_model.encoder. ...                      and visual_projection., as *Image Only Checkpoint Save*
                                                   writes them; or after clip_vision.

A part that lies alone in a file may have the same prefix, or one of a trainer.

Source: `vae_key_prefix`, `text_encoder_key_prefix` and `clip_vision_prefix` (none for Wan) in
comfy/supported_models_base.py of ComfyUI 0.33.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from ..networks.tokenizer import SPIECE
from ..weights.checkpoint import Checkpoint
from ..weights.module_names import transformer_prefix
from ..weights.stored_tensors import Source

__all__ = ["parts_of", "unwrapped"]

_BESIDE = {
    "VAE": re.compile(r"(?:vae|first_stage_model)\.(.+)"),
    "text encoder": re.compile(
        r"(?:text_encoders\.[^.]+\.transformer|cond_stage_model\.transformer|text_encoder)\.(.+)"
        rf"|(?:text_encoders\.(?:[^.]+\.)?)?({SPIECE})"
    ),
    "image encoder": re.compile(r"(?:clip_vision\.)?((?:vision_model|visual_projection)\..+)"),
}
# The tensors by which a VAE and a text encoder are known, after the prefixes of trainers.
_WRAPPED = re.compile(
    r"((?:(?:model|module|_orig_mod|transformer)\.)+)"
    r"(?:decoder\.conv1|decoder\.conv_in|shared|token_embedding|encoder\.embed_tokens)\.weight"
)
_UNUSED = re.compile(r"text_encoders\.(?:.+\.)?logit_scale")


def parts_of(checkpoint: Checkpoint) -> Mapping[str, Checkpoint]:
    """Return the parts in a file by their kind, each with its own names; empty if it is one part."""
    parts: dict[str, dict[str, Source]] = {}
    for key, source in checkpoint.tensors.items():
        kind, name = _place(key)
        if kind:
            parts.setdefault(kind, {})[name] = source
    rest = parts.get("transformer")
    if rest is not None and (len(parts) == 1 or transformer_prefix(rest) is None):
        return {}
    return {kind: replace(checkpoint, tensors=tensors) for kind, tensors in parts.items()}


def _place(key: str) -> tuple[str, str]:
    """Return the kind of part that a tensor belongs to, and its name there; two empty texts for none."""
    if _UNUSED.fullmatch(key):
        return "", ""
    for kind, names in _BESIDE.items():
        if found := names.fullmatch(key):
            return kind, found[found.lastindex or 0]
    return "transformer", key


def unwrapped(checkpoint: Checkpoint) -> Checkpoint:
    """Return a VAE or text encoder without the prefix of a trainer; anything else as it is."""
    keys = checkpoint.tensors
    prefix = next((found[1] for key in keys if (found := _WRAPPED.fullmatch(key))), None)
    if prefix is None or not all(key.startswith(prefix) or key == SPIECE for key in keys):
        return checkpoint
    return replace(checkpoint, tensors={key.removeprefix(prefix): source for key, source in keys.items()})
