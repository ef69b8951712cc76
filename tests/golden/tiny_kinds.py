"""The tiny models behind the golden numbers of picture and small-model runs, in the original key names.

Every number comes from seeded CPU generators, so makers and tests build the same models without storing them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import tiny
import torch
from torch import Tensor

CLIP = {"dim": 64, "heads": 2, "layers": 3, "image": 28, "patch": 14, "ratio": 2}
FRAMES, STEPS, SHIFT, GUIDANCE = 9, 4, 5.0, 3.0
DMD_SHIFT = 8.0


@dataclass(frozen=True)
class Kind:
    """channels, out: of the transformer. clip: whether it reads CLIP. pictures: how many of them its image
    embedding counts (2: FLF2V), 0 when it does not count. latent: (1, C, T, h, w).
    """

    channels: int
    out: int
    latent: tuple[int, ...]
    clip: bool = False
    pictures: int = 0
    seed: int = 700

    def weights(self) -> dict[str, Tensor]:
        """As tiny.expert_weights, for this kind of transformer."""
        weights = tiny.expert_weights(self.seed)
        generator = torch.Generator("cpu").manual_seed(self.seed + 1)

        def normal(*shape: int) -> Tensor:
            std = min(0.05, 1 / math.sqrt(math.prod(shape[1:]) or 1))
            return torch.randn(shape, generator=generator) * std

        weights["patch_embedding.weight"] = normal(tiny.DIM, self.channels, 1, 2, 2)
        weights["head.head.weight"], weights["head.head.bias"] = (
            normal(4 * self.out, tiny.DIM),
            normal(4 * self.out),
        )
        if not self.clip:
            return weights
        width = CLIP["dim"]
        for index, shape in ((0, (width,)), (4, (tiny.DIM,))):
            weights[f"img_emb.proj.{index}.weight"] = 1 + normal(*shape)
            weights[f"img_emb.proj.{index}.bias"] = normal(*shape)
        for index, shape in ((1, (width, width)), (3, (tiny.DIM, width))):
            weights[f"img_emb.proj.{index}.weight"] = normal(*shape)
            weights[f"img_emb.proj.{index}.bias"] = normal(shape[0])
        if self.pictures:
            weights["img_emb.emb_pos"] = normal(1, self.pictures * TOKENS, width) * 10
        for block in range(tiny.LAYERS):
            for part in ("k_img", "v_img"):
                name = f"blocks.{block}.cross_attn.{part}"
                weights[f"{name}.weight"], weights[f"{name}.bias"] = (
                    normal(tiny.DIM, tiny.DIM),
                    normal(tiny.DIM),
                )
            weights[f"blocks.{block}.cross_attn.norm_k_img.weight"] = 1 + normal(tiny.DIM)
        return weights

    def noise(self) -> Tensor:
        return torch.randn(self.latent, generator=torch.Generator("cpu").manual_seed(self.seed + 2))

    def given(self) -> Tensor:
        """Latents of the given frames, as the VAE of the official code gives them: normalised."""
        return torch.randn(self.latent, generator=torch.Generator("cpu").manual_seed(self.seed + 3))


TOKENS = (CLIP["image"] // CLIP["patch"]) ** 2 + 1
_WAN21 = (1, 16, 3, 8, 10)
KINDS = {
    "i2v-a14b": Kind(36, 16, _WAN21),
    "i2v-2.1": Kind(36, 16, _WAN21, clip=True, seed=710),
    "flf2v-2.1": Kind(36, 16, _WAN21, clip=True, pictures=2, seed=720),
    "ti2v-5b": Kind(48, 48, (1, 48, 3, 6, 8), seed=730),
}


def clip_weights(seed: int = 740) -> dict[str, Tensor]:
    """CLIP's image encoder, in the names of the official file below `visual.`."""
    generator = torch.Generator("cpu").manual_seed(seed)
    dim, patch = CLIP["dim"], CLIP["patch"]

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * min(0.2, 1 / math.sqrt(math.prod(shape[1:]) or 1))

    weights: dict[str, Tensor] = {
        "patch_embedding.weight": normal(dim, 3, patch, patch),
        "cls_embedding": normal(1, 1, dim),
        "pos_embedding": normal(1, TOKENS, dim),
        "head": normal(dim, dim),
    }
    for name in ("pre_norm", "post_norm"):
        weights[f"{name}.weight"], weights[f"{name}.bias"] = 1 + normal(dim), normal(dim)
    inner = dim * CLIP["ratio"]
    for layer in range(CLIP["layers"]):
        block = f"transformer.{layer}"
        for name in ("norm1", "norm2"):
            weights[f"{block}.{name}.weight"], weights[f"{block}.{name}.bias"] = 1 + normal(dim), normal(dim)
        for name, outs, ins in (
            ("attn.to_qkv", 3 * dim, dim),
            ("attn.proj", dim, dim),
            ("mlp.0", inner, dim),
            ("mlp.2", dim, inner),
        ):
            weights[f"{block}.{name}.weight"], weights[f"{block}.{name}.bias"] = (
                normal(outs, ins),
                normal(outs),
            )
    return weights


def picture(height: int = 64, width: int = 80) -> Tensor:
    """(3, H, W) in [-1, 1], smooth."""
    x, y = torch.arange(width) / 11, torch.arange(height)[:, None] / 9
    return torch.stack([torch.sin((1 + c / 3) * x) * torch.cos((1.2 - c / 5) * y) for c in range(3)])


def second_picture() -> Tensor:
    return picture().flip(-1) * 0.8


def config(kind: Kind) -> dict[str, Any]:
    return {
        **tiny.DIFFUSERS_CONFIG,
        "in_channels": kind.channels,
        "out_channels": kind.out,
        "image_dim": CLIP["dim"] if kind.clip else None,
        "added_kv_proj_dim": tiny.DIM if kind.clip else None,
        "pos_embed_seq_len": kind.pictures * TOKENS or None,
    }
