"""Make a trained VAE's latents look like the official ones to every reader of Wan files.

Everybody normalises with the official mean and standard deviation, some from the config and some from
constants in code. So the true statistics are folded into the two 1x1x1 convolutions at the latent's door.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLWan

__all__ = ["fold_latent_statistics", "normalise", "official_statistics"]


def official_statistics(vae: AutoencoderKLWan) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of the config, shaped (1, 16, 1, 1, 1)."""
    device = vae.quant_conv.weight.device
    mean, std = (torch.tensor(vae.config[key], device=device) for key in ("latents_mean", "latents_std"))
    return mean.view(1, -1, 1, 1, 1), std.view(1, -1, 1, 1, 1)


def normalise(latents: torch.Tensor, vae: AutoencoderKLWan) -> torch.Tensor:
    mean, std = official_statistics(vae)
    return (latents - mean) / std


@torch.no_grad()
def fold_latent_statistics(
    vae: AutoencoderKLWan, mean: torch.Tensor, std: torch.Tensor, posterior_std: float
) -> None:
    """After this, latents whose channels had `mean` and `std` have the official ones and decode as before.

    The posterior's width was not trained: it becomes `posterior_std` of a normalised latent, so that
    sampling from it gives the noise the decoder knows.
    """
    channels = vae.config.z_dim
    official_mean, official_std = (value.flatten() for value in official_statistics(vae))
    gain = official_std / std
    encode, decode = vae.quant_conv, vae.post_quant_conv
    encode.weight[:channels] *= gain.view(-1, 1, 1, 1, 1)
    encode.bias[:channels] = (encode.bias[:channels] - mean) * gain + official_mean
    encode.weight[channels:] = 0
    encode.bias[channels:] = 2 * torch.log(official_std * posterior_std)
    decode.bias += decode.weight.flatten(1) @ (mean - official_mean / gain)
    decode.weight /= gain.view(1, -1, 1, 1, 1)
