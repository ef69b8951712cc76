"""LATENT as ComfyUI has it <-> latents (1, C, T, H/8, W/8) in VAE space, float32, CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def latents_to_sample(
    latent: Mapping[str, Any], *, frames_stay: bool = False
) -> tuple[Tensor, Tensor | None]:
    """As `from_latent`, with (T,) bool for the latent frames that are to stay as they are, None without any.

    frames_stay: whether the model can do that. Refuses what would change the sampling but is not done here.
    """
    given = _given_frames(latent.get("noise_mask"), latent["samples"].shape, frames_stay)
    if latent.get("batch_index") not in (None, [0]):
        raise SamplingError(
            f"latent: carries batch_index {latent['batch_index']}, which would change the noise; "
            "take the latent before it was cut out of a batch"
        )
    return from_latent(latent), given


def to_latent(latents: Tensor, given: Tensor | None = None) -> dict[str, Tensor]:
    """given: (T,) bool, frames that are to stay as they are."""
    if given is None:
        return {"samples": latents}
    mask = (~given).float().view(1, 1, -1, 1, 1).expand(1, 1, -1, *latents.shape[-2:])
    return {"samples": latents, "noise_mask": mask.contiguous()}


def _given_frames(mask: Tensor | None, shape: Sequence[int], frames_stay: bool) -> Tensor | None:
    if mask is None or bool((mask == 1).all()):
        return None
    if not frames_stay:
        raise SamplingError(
            "latent: carries a noise_mask, and this model cannot keep a part of a latent; remove the mask"
        )
    whole = mask.ndim == 5 and mask.shape[:2] == (1, 1) and mask.shape[2] == shape[2]
    given = mask[0, 0, :, 0, 0] == 0 if whole else None
    if given is None or not bool((mask == (~given).view(1, 1, -1, 1, 1)).all()):
        raise SamplingError(
            f"latent: its noise_mask has shape {tuple(mask.shape)}; only whole frames can stay as they are: "
            f"(1, 1, {shape[2]}, height, width) of 0 and 1 alone, the same all over a frame"
        )
    return given.cpu()
