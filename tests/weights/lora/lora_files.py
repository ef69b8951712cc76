"""Writes tiny LoRA files with the key names of real ones, and merges them by hand in float64.

The tables here were written down from files in the wild; nothing in this module uses the code under test.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from wan_duet.pipelines.networks.expert import meta_expert
from wan_duet.pipelines.weights.recipe import Recipe, materialise
from wan_duet.pipelines.weights.stored_tensors import read_header

CPU = torch.device("cpu")

TINY = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 8,
    "freq_dim": 8,
    "ffn_dim": 20,
    "num_layers": 2,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "rope_max_seq_len": 64,
}

# The matrices that a trainer can reach, as Wan and as diffusers call them.
BLOCK_MATRICES = {
    "self_attn.q": "attn1.to_q",
    "self_attn.k": "attn1.to_k",
    "self_attn.v": "attn1.to_v",
    "self_attn.o": "attn1.to_out.0",
    "cross_attn.q": "attn2.to_q",
    "cross_attn.k": "attn2.to_k",
    "cross_attn.v": "attn2.to_v",
    "cross_attn.o": "attn2.to_out.0",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
}
IMAGE_MATRICES = {"cross_attn.k_img": "attn2.add_k_proj", "cross_attn.v_img": "attn2.add_v_proj"}
NORMS = {
    "self_attn.norm_q": "attn1.norm_q",
    "self_attn.norm_k": "attn1.norm_k",
    "cross_attn.norm_q": "attn2.norm_q",
    "cross_attn.norm_k": "attn2.norm_k",
    "norm3": "norm2",
}
TOP_MATRICES = {
    "patch_embedding": "patch_embedding",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "head.head": "proj_out",
}


@dataclass(frozen=True)
class Dialect:
    """How a trainer spells `blocks.0.self_attn.q`."""

    name: str
    prefix: str
    wan_names: bool
    down: str = "lora_A.weight"
    up: str = "lora_B.weight"
    alpha: bool = False
    underscores: bool = False

    def key(self, wan: str, diffusers: str, part: str) -> str:
        module = wan if self.wan_names else diffusers
        return f"{self.prefix}{module.replace('.', '_') if self.underscores else module}.{part}"


_KOHYA = {"down": "lora_down.weight", "up": "lora_up.weight"}
DIALECTS = [
    Dialect("diffusers", "transformer.", wan_names=False),
    Dialect("no prefix", "", wan_names=False),
    Dialect("diffusers with Wan names", "transformer.", wan_names=True),
    Dialect(
        "peft", "base_model.model.", wan_names=False, down="lora_A.default.weight", up="lora_B.default.weight"
    ),
    Dialect("peft with Wan names", "base_model.model.", wan_names=True),
    Dialect("diffusion-pipe", "diffusion_model.", wan_names=True),
    Dialect("lightning", "diffusion_model.", wan_names=True, **_KOHYA, alpha=True),
    Dialect("comfy without alpha", "diffusion_model.", wan_names=True, **_KOHYA),
    Dialect("whole checkpoint", "model.diffusion_model.", wan_names=True, **_KOHYA, alpha=True),
    Dialect("diffsynth", "", wan_names=True, down="lora_A.default.weight", up="lora_B.default.weight"),
    Dialect("diffsynth pipe", "pipe.dit.", wan_names=True),
    Dialect("of a trainer", "module.", wan_names=True),
    Dialect("of a compiled model", "dit._orig_mod.", wan_names=True),
    Dialect("musubi", "lora_unet_", wan_names=True, **_KOHYA, alpha=True, underscores=True),
    Dialect("musubi without alpha", "lora_unet_", wan_names=True, **_KOHYA, underscores=True),
    Dialect(
        "kohya with diffusers names", "lora_unet_", wan_names=False, **_KOHYA, alpha=True, underscores=True
    ),
    Dialect("videox-fun", "lora_unet__", wan_names=True, **_KOHYA, alpha=True, underscores=True),
    Dialect("onetrainer", "lora_transformer_", wan_names=False, **_KOHYA, alpha=True, underscores=True),
    Dialect(
        "old diffusers",
        "transformer.",
        wan_names=False,
        down="lora.down.weight",
        up="lora.up.weight",
        alpha=True,
    ),
    Dialect("bare", "diffusion_model.", wan_names=True, down="lora_A", up="lora_B"),
    Dialect("lycoris", "lycoris_", wan_names=True, **_KOHYA, alpha=True, underscores=True),
]


def tiny_expert(folder: Path, *, seed: int = 0, **changed: object) -> Recipe:
    """A recipe of a tiny expert with random float32 weights, written below `folder`."""
    torch.manual_seed(seed)
    network = WanTransformer3DModel(**{**TINY, **changed})
    weights = {name: torch.randn_like(tensor) for name, tensor in network.state_dict().items()}
    file = folder / f"expert {seed}.safetensors"
    save_file(weights, file)
    return Recipe.of(dict(network.config), read_header(file))


def made(recipe: Recipe) -> dict[str, Tensor]:
    """Every tensor of the network, as a run would get it in float32."""
    network = meta_expert(recipe)
    materialise(recipe, network, CPU, lambda _: torch.float32, lambda: None)
    return dict(network.state_dict())


def stored(recipe: Recipe) -> dict[str, np.ndarray]:
    return {name: tensor.double().numpy() for name, tensor in load_file(recipe.files[0]).items()}


def matrices(blocks: int = 2) -> dict[str, str]:
    """Wan's name -> diffusers' name of every matrix of an expert without an image path."""
    inside = {
        f"blocks.{i}.{wan}": f"blocks.{i}.{theirs}"
        for i in range(blocks)
        for wan, theirs in BLOCK_MATRICES.items()
    }
    return {**TOP_MATRICES, **inside}


def low_rank_file(
    file: Path,
    recipe: Recipe,
    dialect: Dialect = DIALECTS[0],
    *,
    modules: dict[str, str] | None = None,
    alpha: float = 3.0,
    seed: int = 0,
    metadata: dict[str, str] | None = None,
) -> dict[str, np.ndarray]:
    """Write a LoRA of mixed ranks; returns what it adds at strength 1, by parameter, in float64."""
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, Tensor] = {}
    added: dict[str, np.ndarray] = {}
    for index, (wan, diffusers) in enumerate((modules or matrices()).items()):
        rank = 1 + index % 4
        out, into, *kernel = recipe.tensors[f"{diffusers}.weight"].shape
        down = torch.randn(rank, into, *kernel, generator=generator)
        up = torch.randn(out, rank, *([1] * len(kernel)), generator=generator)
        weights[dialect.key(wan, diffusers, dialect.down)] = down
        weights[dialect.key(wan, diffusers, dialect.up)] = up
        if dialect.alpha:
            weights[dialect.key(wan, diffusers, "alpha")] = torch.tensor(alpha)
        product = np.tensordot(up.double().numpy().reshape(out, rank), down.double().numpy(), axes=(1, 0))
        added[f"{diffusers}.weight"] = product * (alpha / rank if dialect.alpha else 1.0)
    save_file(weights, file, metadata=metadata)
    return added


def difference(found: Tensor, expected: np.ndarray) -> float:
    """Relative: |found - expected| / |expected|."""
    return float(np.linalg.norm(found.double().numpy() - expected) / np.linalg.norm(expected))
