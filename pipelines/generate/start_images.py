"""The images that a clip begins and ends with: fitted to its size, encoded, in the form its model takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat

import torch
from torch import Tensor

from ..device.memory import Memory, compute_dtype
from ..errors import ModelError
from ..loading.wan_model import WanModel
from ..loading.where_files_go import missing
from ..networks.clip_vision import picture_features
from ..progress import Progress
from ..video.image import fit, read_image
from .conditions import ImageConditions, image_mask
from .prepared_run import Run
from .start_latents import encode_with_tile_fallback

__all__ = ["conditions_of", "encode_images", "require_image_support"]


def conditions_of(run: Run) -> ImageConditions:
    """The images of a request, as the model takes them; none for a model that takes none.

    MediaError when one is not a readable image.
    """
    plan, files = run.plan, run.inputs.files
    if run.model.family.pictures == "none":
        return ImageConditions()
    first, last = (
        read_image(files[field].content) if field in files else None
        for field in ("image_url", "end_image_url")
    )
    if first is None:
        return ImageConditions()
    size = plan.width, plan.height
    return encode_images(
        run.model, first, last, size, plan.latent_shape, plan.frames_delivered, run.memory, run.progress
    )


def require_image_support(model: WanModel, ends: bool) -> None:
    """That `model` can begin a clip with an image, and end one where `ends`. ModelError otherwise.

    The check says the same of a request; this is for who puts the blocks together.
    """
    family = model.family
    if family.pictures == "none":
        others = " or ".join(family.able_to("image-to-video"))
        raise ModelError(f"model: {family.name} cannot begin with an image; load {others}")
    if ends and family.end_image == "never":
        raise ModelError(
            f"end_image: {family.name} has no place for it; leave it out, or load wan2.2-i2v-a14b"
        )
    if not ends and family.end_image == "must":
        raise ModelError(f"end_image: {family.name} draws from one image to another; connect it")


def encode_images(
    model: WanModel,
    first: Tensor,
    last: Tensor | None,
    size: tuple[int, int],
    latent_shape: tuple[int, int, int, int],
    frames: int,
    memory: Memory,
    progress: Progress,
) -> ImageConditions:
    """first, last: (H, W, 3) in [0, 1], each resized to cover `size` and cropped in its centre.

    size:         (width, height) in pixels.
    latent_shape: (C, T, H/8, W/8) of the clip.
    frames:       how many are delivered. An image to end with stands on the last of them, and on what the
                  VAE needs after it to fill a latent frame.
    """
    shown = [_to_signed(image, size) for image in (first, last) if image is not None]
    if model.family.pictures == "frames":
        one = (latent_shape[0], 1, *latent_shape[2:])
        latents = torch.zeros(1, *latent_shape)
        latents[:, :, :1] = encode_with_tile_fallback(model, lambda: iter(shown[:1]), one, memory, progress)
        return ImageConditions(latents=latents, frames=torch.arange(latent_shape[1]) == 0)
    generated = (latent_shape[1] - 1) * model.family.vae_stride[0] + 1
    at_the_end = 0 if last is None else generated - frames + 1

    def clip() -> Iterator[Tensor]:
        yield shown[0]
        yield from repeat(torch.zeros_like(shown[0]), generated - 1 - at_the_end)
        yield from repeat(shown[-1], at_the_end)

    latents = encode_with_tile_fallback(model, clip, latent_shape, memory, progress)
    mask = image_mask(latent_shape, last=at_the_end)
    features = _features(model, shown, memory, progress) if model.family.reads_clip else None
    return ImageConditions(latents, mask, features)


def _features(model: WanModel, images: Sequence[Tensor], memory: Memory, progress: Progress) -> Tensor:
    recipe = model.image_encoder
    if recipe is None:
        raise ModelError(missing("image_encoder", model.family.name))
    return picture_features(
        recipe, images, compute_dtype(model.precision, memory, "text_encoder"), memory, progress
    )


def _to_signed(image: Tensor, size: tuple[int, int]) -> Tensor:
    """(3, height, width) in [-1, 1]."""
    return fit(image[None], *size)[0].movedim(-1, 0) * 2 - 1
