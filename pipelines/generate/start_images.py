"""The pictures that a clip begins and ends with: fitted to its size, encoded, in the form its model takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat

import torch
from torch import Tensor

from ..device.memory import Memory, compute_dtype
from ..errors import ModelError
from ..loading.missing_files import missing
from ..loading.wan_model import WanModel
from ..networks.clip_vision import picture_features
from ..progress import Progress
from ..video.picture import fit, read_picture
from .conditions import Pictures, given_mask
from .decided import Run
from .start_latents import encode_with_room

__all__ = ["encode_pictures", "pictures_of", "require_pictures"]


def pictures_of(run: Run) -> Pictures:
    """The pictures of a request, as the model takes them; none for a model that takes none.

    MediaError when one is not a readable picture.
    """
    plan, files = run.plan, run.given.files
    if run.model.family.pictures == "none":
        return Pictures()
    first, last = (
        read_picture(files[field].content) if field in files else None
        for field in ("image_url", "end_image_url")
    )
    if first is None:
        return Pictures()
    size = plan.width, plan.height
    return encode_pictures(
        run.model, first, last, size, plan.latent_shape, plan.frames_delivered, run.memory, run.progress
    )


def require_pictures(model: WanModel, ends: bool) -> None:
    """That `model` can begin a clip with a picture, and end one where `ends`. ModelError otherwise.

    The check says the same of a request; this is for who puts the blocks together.
    """
    family = model.family
    if family.pictures == "none":
        others = " or ".join(family.able_to("image-to-video"))
        raise ModelError(f"model: {family.name} cannot begin with a picture; load {others}")
    if ends and family.end_image == "never":
        raise ModelError(
            f"end_image: {family.name} has no place for it; leave it out, or load wan2.2-i2v-a14b"
        )
    if not ends and family.end_image == "must":
        raise ModelError(f"end_image: {family.name} draws from one picture to another; connect it")


def encode_pictures(
    model: WanModel,
    first: Tensor,
    last: Tensor | None,
    size: tuple[int, int],
    latent_shape: tuple[int, int, int, int],
    frames: int,
    memory: Memory,
    progress: Progress,
) -> Pictures:
    """first, last: (H, W, 3) in [0, 1], each resized to cover `size` and cropped in its centre.

    size:         (width, height) in pixels.
    latent_shape: (C, T, H/8, W/8) of the clip.
    frames:       how many are delivered. A picture to end with stands on the last of them, and on what the
                  VAE needs after it to fill a latent frame.
    """
    shown = [_levelled(picture, size) for picture in (first, last) if picture is not None]
    if model.family.pictures == "frames":
        one = (latent_shape[0], 1, *latent_shape[2:])
        latents = torch.zeros(1, *latent_shape)
        latents[:, :, :1] = encode_with_room(model, lambda: iter(shown[:1]), one, memory, progress)
        return Pictures(latents=latents, frames=torch.arange(latent_shape[1]) == 0)
    generated = (latent_shape[1] - 1) * model.family.vae_stride[0] + 1
    at_the_end = 0 if last is None else generated - frames + 1

    def clip() -> Iterator[Tensor]:
        yield shown[0]
        yield from repeat(torch.zeros_like(shown[0]), generated - 1 - at_the_end)
        yield from repeat(shown[-1], at_the_end)

    latents = encode_with_room(model, clip, latent_shape, memory, progress)
    mask = given_mask(latent_shape, last=at_the_end)
    features = _features(model, shown, memory, progress) if model.family.reads_clip else None
    return Pictures(latents, mask, features)


def _features(model: WanModel, pictures: Sequence[Tensor], memory: Memory, progress: Progress) -> Tensor:
    recipe = model.image_encoder
    if recipe is None:
        raise ModelError(missing("image_encoder", model.family.name))
    return picture_features(
        recipe, pictures, compute_dtype(model.precision, memory, "text_encoder"), memory, progress
    )


def _levelled(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """(3, height, width) in [-1, 1]."""
    return fit(picture[None], *size)[0].movedim(-1, 0) * 2 - 1
