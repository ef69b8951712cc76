"""The names of the modules of a Wan transformer, in Wan's own files and in diffusers.

Only names differ; converting between them changes no tensor. The table is in the order of a forward pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["BLOCK_MODULES", "MODULES", "to_diffusers", "transformer_prefix"]

# ComfyUI's checkpoints put `model.diffusion_model.` before the names, DiffSynth-Studio `pipe.dit.`, trainers
# `net.`, `module.`, `generator.` and many others.
_PREFIXED = re.compile(r"((?:[\w-]+\.)*)patch_embedding\.weight")

# Wan's name -> diffusers' name, of modules with weights and of bare parameters.
MODULES = {
    "patch_embedding": "patch_embedding",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    # Wan 2.1 image to video reads the start image with CLIP; position embeddings only where there are two.
    "img_emb.emb_pos": "condition_embedder.image_embedder.pos_embed",
    "img_emb.proj.0": "condition_embedder.image_embedder.norm1",
    "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
    "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
    "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
    "head.head": "proj_out",
    "head.modulation": "scale_shift_table",
}

# The same below `blocks.N.`. Wan counts the norm before cross attention third, diffusers second.
BLOCK_MODULES = {
    "modulation": "scale_shift_table",
    **{f"self_attn.{part}": f"attn1.to_{part}" for part in "qkv"},
    "self_attn.o": "attn1.to_out.0",
    "self_attn.norm_q": "attn1.norm_q",
    "self_attn.norm_k": "attn1.norm_k",
    "norm3": "norm2",
    **{f"cross_attn.{part}": f"attn2.to_{part}" for part in "qkv"},
    "cross_attn.o": "attn2.to_out.0",
    "cross_attn.norm_q": "attn2.norm_q",
    "cross_attn.norm_k": "attn2.norm_k",
    "cross_attn.k_img": "attn2.add_k_proj",
    "cross_attn.v_img": "attn2.add_v_proj",
    "cross_attn.norm_k_img": "attn2.norm_added_k",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
}

_BLOCK = re.compile(r"(blocks\.\d+)\.(.+)")


def transformer_prefix(keys: Iterable[str]) -> str | None:
    """Return what all names of a transformer begin with; None if no transformer is among the keys.

    >>> transformer_prefix(["module.blocks.0.norm3.weight", "module.patch_embedding.weight"])
    'module.'
    """
    named = list(keys)
    for key in named:
        found = _PREFIXED.fullmatch(key)
        # CLIP has a `patch_embedding` of that name too, but no `blocks`.
        if found and (not found[1] or any(other.startswith(f"{found[1]}blocks.") for other in named)):
            return found[1]
    return None


def to_diffusers(module: str) -> str | None:
    """Convert Wan's name of a module or bare parameter to diffusers' name. None if no Wan model has it.

    >>> to_diffusers("blocks.3.self_attn.q")
    'blocks.3.attn1.to_q'
    """
    block = _BLOCK.fullmatch(module)
    if block is None:
        return MODULES.get(module)
    inner = BLOCK_MODULES.get(block[2])
    return inner and f"{block[1]}.{inner}"
