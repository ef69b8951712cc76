"""Samples one stage of a run with ComfyUI's guider, which calls our loop as its sampler.

Wrappers, hooks, injections and casts of a MODEL act only inside `CFGGuider.sample`: EasyCache and context
windows wrap the outer calls, and hooks are registered there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from comfy import samplers

from ...pipelines.errors import SamplingError

if TYPE_CHECKING:
    from torch import Tensor

    from ...pipelines.loading.host_model import HostPrompts, HostStage, HostStart

__all__ = ["sample_stages"]


def sample_stages(
    models: Mapping[str, Any], stages: Sequence[HostStage], start: HostStart, prompts: HostPrompts
) -> Tensor:
    """As `HostNetworks.sample`. models: the MODEL of each expert."""
    latents, noise = start.latents, start.noise
    first: _Kept | None = None
    for stage in stages:
        # Looked up here, because another pack may replace the class.
        guider = samplers.CFGGuider(models[stage.expert])
        guider.set_conds(prompts.positive, prompts.negative)
        guider.set_cfg(stage.guidance)
        sampler = _LoopSampler(stage, first)
        latents = guider.sample(
            torch.zeros_like(latents) if noise is None else noise,
            latents,
            sampler,
            torch.tensor(stage.expert_sigmas, dtype=torch.float32),
            denoise_mask=start.mask,
            callback=lambda step, clean, before, _total, stage=stage: stage.report(step, clean, before),
            disable_pbar=True,
            seed=start.seed,
        )
        first, noise = sampler.kept, None
    return latents.float().cpu()


# (noise, normalised latents) of the first stage. Masked parts are made from them in every stage.
_Kept = tuple[Any, Any]


class _LoopSampler(samplers.Sampler):
    """Makes the steps of one stage with our solver, from the noise and latents of the guider.

    The noise must be the guider's: context windows with FreeNoise shuffle it.
    """

    def __init__(self, stage: HostStage, kept: _Kept | None) -> None:
        self._stage = stage
        self.kept = kept

    def sample(
        self,
        model_wrap: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Any,
        noise: Tensor,
        latent_image: Tensor | None = None,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,  # noqa: ARG002  ComfyUI passes it by position
    ) -> Tensor:
        if sigmas.tolist() != torch.tensor(self._stage.expert_sigmas, dtype=torch.float32).tolist():
            raise SamplingError(
                "sigmas: a patch on the model changes the noise levels of the run, which this sampler would "
                "not follow; remove that patch, or use ComfyUI's own sampler"
            )
        scaling = model_wrap.inner_model.model_sampling
        first, *_, last = sigmas.new_tensor(self._stage.sigmas)
        noisy = scaling.noise_scaling(
            first.new_tensor(1.0) if self._stage.pure else first, noise, latent_image
        )
        self.kept = self.kept or (noise, latent_image)
        inner = samplers.KSamplerX0Inpaint(model_wrap, sigmas)
        inner.noise, inner.latent_image = self.kept

        def predict(latents: Tensor, expert_sigma: float) -> Tensor:
            sigma = latents.new_full((latents.shape[0],), expert_sigma)
            return inner(latents, sigma, denoise_mask=denoise_mask, **extra_args)

        def report(step: int, clean: Tensor, before: Tensor) -> None:
            if callback is not None:
                callback(step, clean, before, len(sigmas) - 1)

        walked = self._stage.walk(noisy, predict, report)
        return scaling.inverse_noise_scaling(last, walked)
