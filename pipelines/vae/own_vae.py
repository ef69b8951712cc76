"""The Wan VAE of a configuration, as diffusers writes it. Importing diffusers takes longer than torch."""

from __future__ import annotations

from torch import nn

from .layers import WanCausalConv3d, WanDecoder3d, WanEncoder3d
from .vae_config import VaeConfig

__all__ = ["OwnVae"]


class OwnVae(nn.Module):
    """The network. `replace_vae_forward` gives it its forward and kernels.

    Raises ValueError for attention outside of the middle block.
    """

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        if config.attn_scales:
            raise ValueError(f"attn_scales is {list(config.attn_scales)}; no Wan VAE has any")
        self.config = config
        self.encoder = WanEncoder3d(config)
        self.quant_conv = WanCausalConv3d(2 * config.z_dim, 2 * config.z_dim, 1)
        self.post_quant_conv = WanCausalConv3d(config.z_dim, config.z_dim, 1)
        self.decoder = WanDecoder3d(config)
