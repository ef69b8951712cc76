"""Separates the parts of a model that lie in one file, as ComfyUI's *Save Checkpoint* writes them.

    model.diffusion_model.blocks.0. ...            the transformer
    vae.decoder. ...                               or first_stage_model.
    text_encoders.umt5xxl.transformer.shared. ...  and text_encoders.spiece_model, its tokenizer;
                                                   or cond_stage_model.transformer., or text_encoder.

Source: `vae_key_prefix` and `text_encoder_key_prefix` in comfy/supported_models_base.py of ComfyUI 0.33.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from ..networks.tokenizer import SPIECE
from ..weights.checkpoint import Checkpoint
from ..weights.module_names import transformer_prefix
from ..weights.stored_tensors import Source

__all__ = ["parts_of"]

_VAE = re.compile(r"(?:vae|first_stage_model)\.(.+)")
_TEXT = re.compile(
    r"(?:text_encoders\.[^.]+\.transformer|cond_stage_model\.transformer|text_encoder)\.(.+)"
    rf"|text_encoders\.(?:[^.]+\.)?({SPIECE})"
)
_UNUSED = re.compile(r"text_encoders\.(?:.+\.)?logit_scale")


def parts_of(checkpoint: Checkpoint) -> Mapping[str, Checkpoint]:
    """Return the parts in a file by their kind, each with its own names; empty if the file is one part."""
    parts: dict[str, dict[str, Source]] = {"transformer": {}, "VAE": {}, "text encoder": {}}
    for key, source in checkpoint.tensors.items():
        if vae := _VAE.fullmatch(key):
            parts["VAE"][vae[1]] = source
        elif text := _TEXT.fullmatch(key):
            parts["text encoder"][text[1] or text[2]] = source
        elif not _UNUSED.fullmatch(key):
            parts["transformer"][key] = source
    if not (parts["VAE"] or parts["text encoder"]) or transformer_prefix(parts["transformer"]) is None:
        return {}
    return {kind: replace(checkpoint, tensors=tensors) for kind, tensors in parts.items() if tensors}
