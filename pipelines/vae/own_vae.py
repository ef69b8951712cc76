"""The Wan VAE of a configuration, as diffusers writes it. Importing diffusers takes longer than torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from torch import nn

from .layers import WanCausalConv3d, WanDecoder3d, WanEncoder3d

__all__ = ["OwnVae", "VaeConfig"]


@dataclass(frozen=True)
class VaeConfig:
    """What the layers of a VAE follow from. The defaults are for what a config.json leaves out.

    is_residual: the layout of Wan 2.2. patch_size: pixels on a side that become channels; None for 1.
    """

    base_dim: int = 96
    decoder_base_dim: int | None = None
    z_dim: int = 16
    dim_mult: Sequence[int] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    attn_scales: Sequence[float] = ()
    temperal_downsample: Sequence[bool] = (False, True, True)
    is_residual: bool = False
    in_channels: int = 3
    out_channels: int = 3
    patch_size: int | None = None
    scale_factor_spatial: int = 8

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> VaeConfig:
        """Read a config.json. What this network does not have is ignored, as diffusers does."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in config.items() if name in known})


class OwnVae(nn.Module):
    """The network. `replace_vae_forward` gives it its forward and kernels.

    Raises ValueError for attention outside of the middle block.
    """

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        if config.attn_scales:
            raise ValueError(f"attn_scales is {list(config.attn_scales)}; no Wan VAE has any")
        self.config, levels = config, (config.dim_mult, config.num_res_blocks)
        in_time, nested = list(config.temperal_downsample), config.is_residual
        self.encoder = WanEncoder3d(
            config.in_channels, config.base_dim, 2 * config.z_dim, *levels, in_time, nested=nested
        )
        self.quant_conv = WanCausalConv3d(2 * config.z_dim, 2 * config.z_dim, 1)
        self.post_quant_conv = WanCausalConv3d(config.z_dim, config.z_dim, 1)
        width = config.base_dim if config.decoder_base_dim is None else config.decoder_base_dim
        self.decoder = WanDecoder3d(
            config.out_channels, width, config.z_dim, *levels, in_time[::-1], nested=nested
        )
