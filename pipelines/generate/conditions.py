"""The first and last image of a clip, in the form in which a network takes them.

There are three forms. The family of the model decides:
1. Channels concatenated to the latents: Wan 2.1 and 2.2 image to video, as in wan/image2video.py of
   Wan-Video/Wan2.2 and, with a last image, wan/first_last_frame2video.py of Wan-Video/Wan2.1.
2. CLIP features beside the text: Wan 2.1 only.
3. Latent frames without noise: the 5B, as in wan/textimage2video.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import ModelError, SamplingError
from ..loading.host_model import HostModel, HostPrompts
from ..loading.wan_model import WanModel
from ..sampling.engine import Condition, Prompts
from ..vae.latent_space import normalise
from ..weights.recipe import Recipe

__all__ = ["ImageConditions", "condition_channels", "image_mask", "require_channels"]


@dataclass(frozen=True)
class ImageConditions:
    """The encoded images of a run, float32, on the CPU. All None for a run without an image.

    latents:  (1, C, T, H/8, W/8) in VAE space: the images, and grey or zeros between them.
    mask:     (1, 4, T, H/8, W/8), for form 1; see `image_mask`.
    features: (1, tokens, D) of CLIP, for form 2.
    frames:   (T,) bool, for form 3: True where a latent frame is an image.
    """

    latents: Tensor | None = None
    mask: Tensor | None = None
    features: Tensor | None = None
    frames: Tensor | None = None

    def start(self, latents: Tensor) -> Tensor:
        """Return the start latents: those of the image in form 3, else `latents`."""
        return latents if self.frames is None or self.latents is None else self.latents

    def on_host(self, prompts: HostPrompts, model: HostModel) -> HostPrompts:
        """As `beside`, for a model of the host."""
        if self.mask is None and self.features is None:
            return prompts
        latents = None if self.mask is None else self.latents
        return model.networks.with_images(prompts, latents, self.mask, self.features)

    def beside(self, prompts: Prompts, vae: Recipe) -> Prompts:
        """Return `prompts` with these images added to each condition."""
        channels = None
        if self.mask is not None and self.latents is not None:
            channels = condition_channels(self.mask, self.latents, vae)

        def with_image(condition: Condition) -> Condition:
            return replace(condition, channels=channels, clip_features=self.features)

        negative = None if prompts.negative is None else with_image(prompts.negative)
        return Prompts(with_image(prompts.positive), negative, prompts.avoided)


def image_mask(latent_shape: Sequence[int], *, last: int, first: int = 1) -> Tensor:
    """Return a mask (1, 4, T, H/8, W/8): 1 for the first `first` and the last `last` pixel frames, else 0.

    The four channels are the four pixel frames of a latent frame. The first latent frame holds only one pixel
    frame, which fills all four.
    """
    frames, rows, columns = latent_shape[-3:]
    given = torch.zeros(4 * frames)
    given[: 3 + first] = 1
    given[4 * frames - last :] = 1
    return given.view(frames, 4).T[None, :, :, None, None].expand(1, 4, frames, rows, columns)


def condition_channels(mask: Tensor, latents: Tensor, vae: Recipe) -> Tensor:
    """Return the mask and then the normalised latents, the channels to concatenate to the noisy latents.

    latents: (1, C, T, H/8, W/8) in VAE space: the images, and grey between them.
    """
    return torch.cat([mask.to(latents), normalise(latents, vae)], dim=1)


def require_channels(model: WanModel, prompts: Prompts, latents: Tensor, given: Tensor | None) -> None:
    """Check that the conditions match the inputs of the network of `model`.

    Raises ModelError when an image is missing or not supported, SamplingError when its shape does not fit.
    """
    wanted = int(model.experts["high"].config.get("in_channels", 16)) - model.family.latent_channels
    if given is not None and model.family.image_form != "frames":
        raise ModelError(
            f"{model.name}: cannot keep latent frames unchanged, only the 5B can; connect the image as a "
            "condition, or remove the mask"
        )
    for name, condition in (("positive", prompts.positive), ("negative", prompts.negative)):
        if condition is None:
            continue
        if not wanted and condition.channels is not None:
            raise ModelError(
                f"{name}: carries an image, but {model.family.name} does not use one; load an image-to-video "
                "model, or remove the image"
            )
        if wanted and condition.channels is None:
            raise ModelError(
                f"{name}: {model.family.name} needs an image, but none is connected; use Wan Duet Image "
                "Condition, or load a text-to-video model"
            )
        shape = (latents.shape[0], wanted, *latents.shape[2:])
        if condition.channels is not None and condition.channels.shape != shape:
            raise SamplingError(
                f"{name}: its image has shape {tuple(condition.channels.shape)}, but the latent needs "
                f"{shape}; give both the same width, height and number of frames"
            )
        if model.family.uses_clip and condition.clip_features is None:
            raise ModelError(
                f"{name}: {model.family.name} needs CLIP features of the image, but there are none; load an "
                "image encoder together with the model"
            )
