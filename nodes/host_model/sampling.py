"""Samples CONDITIONING and LATENT of ComfyUI on a MODEL of ComfyUI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy import sample as core_sample

from ...pipelines.generate.host_sampling import sample_on_host
from ...pipelines.loading.host_model import HostPrompts, HostStart

if TYPE_CHECKING:
    from ...pipelines.loading.host_model import HostModel
    from ...pipelines.sampling.schedule import Sampling
    from ..host_progress import NodeProgress

__all__ = ["sample_with_host"]

_SIZES = ("downscale_ratio_spacial", "downscale_ratio_temporal")  # of an empty latent; spent below


def sample_with_host(
    model: HostModel,
    sampling: Sampling,
    material: tuple[Any, Any, Any],
    seed: int,
    add_noise: bool,
    progress: NodeProgress,
) -> dict[str, Any]:
    """Sample and return a LATENT, with noise and preparation as in ComfyUI's samplers.

    material: positive, negative, latent. Everything attached to them has its effect.
    """
    positive, negative, latent = material
    high = model.networks.experts["high"]
    latents = core_sample.fix_empty_latent_channels(
        high, latent["samples"], *(latent.get(name) for name in _SIZES)
    )
    noise = core_sample.prepare_noise(latents, seed, latent.get("batch_index")) if add_noise else None
    start = HostStart(latents, noise, latent.get("noise_mask"), seed)
    finished = sample_on_host(model, sampling, start, HostPrompts(positive, negative), progress)
    return {**{key: value for key, value in latent.items() if key not in _SIZES}, "samples": finished}
