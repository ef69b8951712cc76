"""Resizes and encodes the first and last image of a clip, in the form that the model takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat

import numpy as np
import torch
from torch import Tensor

from ..device.memory import Memory, compute_dtype
from ..errors import ModelError
from ..loading.host_model import AnyModel, HostModel
from ..loading.missing_files import missing
from ..loading.wan_model import WanModel
from ..networks.clip_vision import image_features
from ..progress import Progress
from ..vae.latent_space import denormalise
from ..video.image_tensor import fit
from ..video.read_image import read_image
from .conditions import ImageConditions, image_mask
from .prepared_run import Run
from .start_latents import encode_with_tile_fallback

__all__ = ["anchored_images", "conditions_of", "encode_images", "require_image_support"]


def conditions_of(run: Run) -> ImageConditions:
    """Encode the first and last image of a request. Returns an empty condition when the model uses none.

    Raises MediaError when one is not a readable image.
    """
    plan, files = run.plan, run.inputs.files
    if run.model.family.image_form == "none":
        return ImageConditions()
    first, last = (
        read_image(files[field].content) if field in files else None
        for field in ("image_url", "end_image_url")
    )
    if first is None:
        return ImageConditions()
    size = plan.width, plan.height
    if run.anchored is not None:
        return anchored_images(
            run.own_model, first, run.anchored, size, plan.latent_shape, run.memory, run.progress
        )
    lead = [torch.from_numpy(np.array(frame)).float() / 255 for frame in run.lead]
    return encode_images(
        run.model,
        first,
        last,
        size,
        plan.latent_shape,
        plan.frames_delivered,
        run.memory,
        run.progress,
        lead=lead,
    )


def require_image_support(model: AnyModel, ends: bool) -> None:
    """Raise ModelError when `model` cannot use a first image or, if `ends`, a last one.

    `check` does the same for a request. This is for the building-block nodes.
    """
    family = model.family
    if family.image_form == "none":
        others = " or ".join(family.able_to("image-to-video"))
        raise ModelError(f"model: {family.name} does not use a first image; load {others}")
    if ends and family.end_image == "never":
        raise ModelError(
            f"end_image: {family.name} does not use a last image; leave it out, or load wan2.2-i2v-a14b"
        )
    if not ends and family.end_image == "must":
        raise ModelError(
            f"end_image: not connected, but {family.name} needs a first and a last image; connect it"
        )


def encode_images(
    model: AnyModel,
    first: Tensor,
    last: Tensor | None,
    size: tuple[int, int],
    latent_shape: tuple[int, int, int, int],
    frames: int,
    memory: Memory,
    progress: Progress,
    *,
    lead: Sequence[Tensor] = (),
) -> ImageConditions:
    """Encode the first and last image of a clip.

    first, last:  (H, W, 3) in [0, 1]. Each is resized to cover `size` and cropped in its centre.
    size:         (width, height) in pixels.
    latent_shape: (C, T, H/8, W/8) of the clip.
    frames:       number of frames that are delivered. The last image is put on the last one, and on the
                  frames after it that fill its latent frame.
    lead:         images of the frames after the first one: 4 n, so that whole latent frames are given.
    """
    given = [_to_signed(image, size) for image in (first, *lead)]
    shown = [given[0], *([] if last is None else [_to_signed(last, size)])]
    if model.family.image_form == "frames":
        count = len(lead) // model.family.vae_stride[0] + 1
        part = (latent_shape[0], count, *latent_shape[2:])
        latents = torch.zeros(1, *latent_shape)
        latents[:, :, :count] = encode_with_tile_fallback(model, lambda: iter(given), part, memory, progress)
        return ImageConditions(latents=latents, frames=torch.arange(latent_shape[1]) < count)
    generated = (latent_shape[1] - 1) * model.family.vae_stride[0] + 1
    at_the_end = 0 if last is None else generated - frames + 1

    def clip() -> Iterator[Tensor]:
        yield from given
        yield from repeat(torch.zeros_like(shown[0]), generated - len(given) - at_the_end)
        yield from repeat(shown[-1], at_the_end)

    latents = encode_with_tile_fallback(model, clip, latent_shape, memory, progress)
    mask = image_mask(latent_shape, last=at_the_end, first=len(given))
    features = _features(model, shown, memory, progress) if model.family.uses_clip else None
    return ImageConditions(latents, mask, features)


def anchored_images(
    model: WanModel,
    anchor: Tensor,
    before: Tensor,
    size: tuple[int, int],
    latent_shape: tuple[int, int, int, int],
    memory: Memory,
    progress: Progress,
) -> ImageConditions:
    """Return what Stable Video Infinity 2.0 Pro gives a clip: an image, and the end of the clip before.

    The latents are those of the image alone, then `before`, then zeros where others have the latents of grey
    frames; the mask marks the image only. As in docs/svi/svi_2.0_pro.md and wan_video_svi_pro.py of
    vita-epfl/Stable-Video-Infinity, branch svi_wan22.

    anchor: (H, W, 3) in [0, 1].
    before: (1, C, k, H/8, W/8) in VAE space: the last latent frames of the clip before; none for the first.
    """
    channels, frames, *rest = latent_shape
    one = encode_with_tile_fallback(
        model, lambda: iter([_to_signed(anchor, size)]), (channels, 1, *rest), memory, progress
    )
    given = torch.cat([one, before.to(one)], dim=2)
    empty = denormalise(torch.zeros(1, channels, frames - given.shape[2], *rest), model.vae)
    return ImageConditions(torch.cat([given, empty], dim=2), image_mask(latent_shape, last=0))


def _features(model: AnyModel, images: Sequence[Tensor], memory: Memory, progress: Progress) -> Tensor:
    if isinstance(model, HostModel):
        return model.networks.image_features(images)
    recipe = model.image_encoder
    if recipe is None:
        raise ModelError(missing("image_encoder", model.family.name))
    return image_features(
        recipe, images, compute_dtype(model.precision, memory, "text_encoder"), memory, progress
    )


def _to_signed(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize and crop `image` (H, W, 3) in [0, 1]. Returns (3, height, width) in [-1, 1]."""
    return fit(image[None], *size)[0].movedim(-1, 0) * 2 - 1
