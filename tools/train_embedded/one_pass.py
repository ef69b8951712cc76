"""The VAE over a whole clip at once, with gradients: what its chunked loop computes, in fewer operations.

The causal convolutions see zeros before the first frame in both forms; what differs is how time is halved
and doubled, because the loop treats the first frame alone. The last clamp is left out: it would cut the
gradient of exactly the pixels that are most wrong.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLWan
from torch import nn
from torch.nn import functional

__all__ = ["decode_clip", "encode_clip"]


def encode_clip(vae: AutoencoderKLWan, pixels: torch.Tensor) -> torch.Tensor:
    """(B, 3, 4k+1, H, W) in -1..1 -> (B, 2*16, k+1, H/8, W/8): mean and log-variance, un-normalised."""
    encoder = vae.encoder
    x = encoder.conv_in(pixels)
    for layer in encoder.down_blocks:
        x = layer(x)
        if getattr(layer, "mode", None) == "downsample3d":
            x = torch.cat([x[:, :, :1], layer.time_conv(x)], dim=2) if x.shape[2] > 1 else x
    x = encoder.mid_block(x)
    x = encoder.conv_out(functional.silu(encoder.norm_out(x)))
    moments: torch.Tensor = vae.quant_conv(x)
    return moments


def decode_clip(vae: AutoencoderKLWan, latents: torch.Tensor) -> torch.Tensor:
    """(B, 16, k+1, H/8, W/8) un-normalised -> (B, 3, 4k+1, H, W), about -1..1, not clamped."""
    decoder = vae.decoder
    x = decoder.mid_block(decoder.conv_in(vae.post_quant_conv(latents)))
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            x = resnet(x)
        for upsampler in block.upsamplers or ():
            x = upsampler(_double_time(upsampler, x) if upsampler.mode == "upsample3d" else x)
    pixels: torch.Tensor = decoder.conv_out(functional.silu(decoder.norm_out(x)))
    return pixels


def _double_time(upsampler: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Frame 0 stays one frame; every later one becomes two, convolved as if frame 0 had not been there."""
    if x.shape[2] == 1:
        return x
    pairs = upsampler.get_submodule("time_conv")(x[:, :, 1:]).unflatten(1, (2, -1))
    return torch.cat([x[:, :, :1], pairs.movedim(1, 3).flatten(2, 3)], dim=2)
