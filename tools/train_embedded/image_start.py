"""First weights of the VAE: an image VAE that repeats its frames.

A causal convolution starts with nearly all its weight on the present frame, halving time starts as keeping
the later frame, doubling it as repeating a frame. Stills can then be learnt first, and clips start from
what stills taught.
"""

from __future__ import annotations

import math

import torch
from diffusers import AutoencoderKLWan
from torch import nn

__all__ = ["start_as_image_vae"]

_PAST = 0.3  # of the present frame's weight scale
_BRANCH = 0.3  # residual branches start quiet


@torch.no_grad()
def start_as_image_vae(vae: AutoencoderKLWan) -> AutoencoderKLWan:
    for name, module in vae.named_modules():
        if not isinstance(module, (nn.Conv2d, nn.Conv3d)):
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
        if name.endswith("time_conv"):
            _pass_through(module)
            continue
        taps = module.weight.shape[2] if module.weight.ndim == 5 else 1
        nn.init.normal_(module.weight, std=1 / math.sqrt(module.weight[0].numel()))
        if taps > 1:
            module.weight[:, :, -1] *= math.sqrt(taps)
            module.weight[:, :, :-1] *= _PAST
        if name.endswith("conv2"):
            module.weight *= _BRANCH
    return vae


def _pass_through(time_conv: nn.Conv2d | nn.Conv3d) -> None:
    """(C or 2C, C, 3, 1, 1): every output channel copies its input channel of the latest frame."""
    outputs, inputs = time_conv.weight.shape[:2]
    nn.init.normal_(time_conv.weight, std=0.02)
    time_conv.weight[:, :, -1, 0, 0] += torch.eye(inputs).repeat(outputs // inputs, 1)
