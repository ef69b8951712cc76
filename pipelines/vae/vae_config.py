"""The configuration of a Wan VAE, as diffusers writes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

__all__ = ["VaeConfig"]


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
