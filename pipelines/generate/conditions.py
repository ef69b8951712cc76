"""ImageConditions that a clip begins or ends with, in the form in which a network takes them.

Three forms, by family: channels that enter behind the latents (Wan 2.1 and 2.2 image to video; the layout is
that of wan/image2video.py in Wan-Video/Wan2.2 and, with a last image, of wan/first_last_frame2video.py in
Wan-Video/Wan2.1), features of CLIP beside the text (Wan 2.1 only), and latent frames that hold no noise (5B,
wan/textimage2video.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import ModelError, SamplingError
from ..loading.wan_model import WanModel
from ..sampling.engine import Condition, Prompts
from ..vae.latent_space import normalise
from ..weights.recipe import Recipe

__all__ = ["ImageConditions", "condition_channels", "image_mask", "require_channels"]


@dataclass(frozen=True)
class ImageConditions:
    """What a run is given beside its text; all None without an image. float32, CPU.

    latents:  (1, C, T, H/8, W/8) in VAE space, of the given frames, with grey in between or nothing.
    mask:     (1, 4, T, H/8, W/8) of them, for a network that they enter as channels; see `image_mask`.
    features: (1, tokens, D) of CLIP.
    frames:   (T,) bool, for a network in whose latents they stand without noise.
    """

    latents: Tensor | None = None
    mask: Tensor | None = None
    features: Tensor | None = None
    frames: Tensor | None = None

    def start(self, latents: Tensor) -> Tensor:
        """What sampling starts from, where it would start from `latents` without an image."""
        return latents if self.frames is None or self.latents is None else self.latents

    def beside(self, prompts: Prompts, vae: Recipe) -> Prompts:
        """The prompts, each with these images."""
        channels = None
        if self.mask is not None and self.latents is not None:
            channels = condition_channels(self.mask, self.latents, vae)

        def with_image(condition: Condition) -> Condition:
            return replace(condition, channels=channels, picture=self.features)

        negative = None if prompts.negative is None else with_image(prompts.negative)
        return Prompts(with_image(prompts.positive), negative)


def image_mask(latent_shape: Sequence[int], *, last: int) -> Tensor:
    """(1, 4, T, H/8, W/8): 1 for pixel frames that are given, the first and the `last` ones, 0 for the rest.

    A latent frame stands for four pixel frames, the first one for one, which fills its four places.
    """
    frames, rows, columns = latent_shape[-3:]
    given = torch.zeros(4 * frames)
    given[:4] = 1
    given[4 * frames - last :] = 1
    return given.view(frames, 4).T[None, :, :, None, None].expand(1, 4, frames, rows, columns)


def condition_channels(mask: Tensor, latents: Tensor, vae: Recipe) -> Tensor:
    """The mask and then the normalised latents, as they enter behind the noisy ones.

    latents: (1, C, T, H/8, W/8) in VAE space, of the given frames with grey in between.
    """
    return torch.cat([mask.to(latents), normalise(latents, vae)], dim=1)


def require_channels(model: WanModel, prompts: Prompts, latents: Tensor, given: Tensor | None) -> None:
    """That the conditions hold what the network of `model` takes, no more and no less.

    Raises ModelError where an image is missing or has no place, SamplingError where its shape is another.
    """
    wanted = int(model.experts["high"].config.get("in_channels", 16)) - model.family.latent_channels
    if given is not None and model.family.pictures != "frames":
        raise ModelError(
            f"{model.name}: cannot keep frames of a latent as they are, only the 5B can; connect the image "
            "as a condition, or remove the mask"
        )
    for name, condition in (("positive", prompts.positive), ("negative", prompts.negative)):
        if condition is None:
            continue
        if not wanted and condition.channels is not None:
            raise ModelError(
                f"{name}: carries an image, which {model.family.name} does not take; load an image-to-video "
                "model, or remove the image"
            )
        if wanted and condition.channels is None:
            raise ModelError(
                f"{name}: {model.family.name} begins with an image, and none is connected; use Wan Duet "
                "Image Condition, or load a text-to-video model"
            )
        shape = (latents.shape[0], wanted, *latents.shape[2:])
        if condition.channels is not None and condition.channels.shape != shape:
            raise SamplingError(
                f"{name}: its image is {tuple(condition.channels.shape)}, the latent needs {shape}; give "
                "both the same width, height and number of frames"
            )
        if model.family.reads_clip and condition.picture is None:
            raise ModelError(
                f"{name}: {model.family.name} also reads the image with CLIP, and nothing of that is "
                "connected; load an image encoder with the model"
            )
