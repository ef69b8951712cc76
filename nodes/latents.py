"""LATENT as ComfyUI has it <-> latents (1, C, T, H/8, W/8) in VAE space, float32, CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..pipelines.errors import SamplingError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["from_latent", "latents_to_sample", "to_latent"]


def from_latent(latent: Mapping[str, Any]) -> Tensor:
    """The latents of one video. Raises SamplingError when it is a picture or a batch."""
    samples: Tensor = latent["samples"]
    if samples.ndim != 5 or samples.shape[0] != 1:
        raise SamplingError(
            f"latent: shape {tuple(samples.shape)}, but one video (1, channels, frames, height, width) is "
            "needed; make it with Wan Duet Empty Latent"
        )
    return samples.float().cpu()


def latents_to_sample(latent: Mapping[str, Any]) -> Tensor:
    """As `from_latent`, and refuses what would change the sampling but is not done here."""
    mask = latent.get("noise_mask")
    if mask is not None and not bool((mask == 1).all()):
        raise SamplingError(
            "latent: carries a noise_mask, and sampling only a part is not supported; remove the mask"
        )
    if latent.get("batch_index") not in (None, [0]):
        raise SamplingError(
            f"latent: carries batch_index {latent['batch_index']}, which would change the noise; "
            "take the latent before it was cut out of a batch"
        )
    return from_latent(latent)


def to_latent(latents: Tensor) -> dict[str, Tensor]:
    return {"samples": latents}
