"""Converts between LATENT of ComfyUI and latents (1, C, T, H/8, W/8) in VAE space, float32, CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..pipelines.errors import SamplingError

if TYPE_CHECKING:
    from torch import Tensor

    from ..pipelines.sampling.chained import Incoming

__all__ = ["from_latent", "incoming", "latents_to_sample", "noise_level", "to_latent", "with_level"]

# (noise level, the tensor it was written for). Nodes copy the keys of a LATENT they change, so a level counts
# only beside its own tensor.
_LEVEL = "wan_duet_noise_level"


def from_latent(latent: Mapping[str, Any]) -> Tensor:
    """Return the latents of one video. Raises SamplingError for an image or a batch."""
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
    """As `from_latent`. Also return (T,) bool, True for latent frames that must stay unchanged, or None.

    frames_stay: the model can keep frames. Raises SamplingError for settings that this sampler would ignore.
    """
    kept = _kept_frames(latent.get("noise_mask"), latent["samples"].shape, frames_stay)
    if latent.get("batch_index") not in (None, [0]):
        raise SamplingError(
            f"latent: has batch_index {latent['batch_index']}, which would change the noise; "
            "use the latent from before it was taken out of a batch"
        )
    return from_latent(latent), kept


def to_latent(latents: Tensor, kept: Tensor | None = None, level: float = 0.0) -> dict[str, Any]:
    """Make a LATENT. kept: (T,) bool, True for frames that must stay unchanged. level: of its noise."""
    latent = with_level({"samples": latents}, level)
    if kept is None:
        return latent
    mask = (~kept).float().view(1, 1, -1, 1, 1).expand(1, 1, -1, *latents.shape[-2:])
    return {**latent, "noise_mask": mask.contiguous()}


def with_level(latent: Mapping[str, Any], level: float) -> dict[str, Any]:
    """Write the noise level of a LATENT, 0 to 1."""
    return {**latent, _LEVEL: (level, latent["samples"])}


def noise_level(latent: Mapping[str, Any]) -> float | None:
    """Return the noise level of a LATENT. None if it is unknown, or if a node changed the latent since."""
    level, samples = latent.get(_LEVEL, (None, None))
    return level if samples is latent["samples"] else None


def incoming(latent: Mapping[str, Any]) -> Incoming:
    """Return what a sampler must know of a LATENT before it adds noise."""
    from ..pipelines.sampling.chained import Incoming

    level = noise_level(latent)
    empty = not bool(latent["samples"].any())
    return Incoming(level, empty, changed=_LEVEL in latent and level is None)


def _kept_frames(mask: Tensor | None, shape: Sequence[int], frames_stay: bool) -> Tensor | None:
    if mask is None or bool((mask == 1).all()):
        return None
    if not frames_stay:
        raise SamplingError(
            "latent: has a noise_mask, but this model cannot keep a part of a latent; remove the mask"
        )
    whole = mask.ndim == 5 and mask.shape[:2] == (1, 1) and mask.shape[2] == shape[2]
    kept = mask[0, 0, :, 0, 0] == 0 if whole else None
    if kept is None or not bool((mask == (~kept).view(1, 1, -1, 1, 1)).all()):
        raise SamplingError(
            f"latent: its noise_mask has shape {tuple(mask.shape)}; only whole frames can stay as they are: "
            f"(1, 1, {shape[2]}, height, width), with one value, 0 or 1, per frame"
        )
    return kept.cpu()
