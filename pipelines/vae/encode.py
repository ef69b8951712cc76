"""Encodes frames into latents while they are read: 1 frame, then 4 for each latent frame."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import MediaError
from ..video.frame_stream import close
from .stream import exclusive, patched
from .tiles import Tile, TileCaches, Tiling, in_tiles

if TYPE_CHECKING:
    from .own_vae import OwnVae

__all__ = ["stream_encode"]


def stream_encode(vae: OwnVae, frames: Iterator[Tensor], *, tiling: Tiling | None = None) -> Iterator[Tensor]:
    """Encode `frames` as they come: the mean that `vae.encode` gives, or its `tiled_encode`.

    The same bits, but for a last rounding where a device computes the 1x1x1 convolution at the end in another
    way for one latent frame than for all.

    Args:
        vae: 2.1 or 2.2 layout, where its weights are and in their dtype.
        frames: (3, H, W) in [-1, 1], any device and float dtype, 4 n + 1 of one size. Closed at the end.
        tiling: cut images that are larger than its tiles.

    Yields:
        (C, h, w), un-normalised VAE space, on the VAE's device and in its dtype.

    Raises:
        MediaError: no frame, a number that is not 4 n + 1 (the VAE would drop the last ones), a size that is
            no multiple of the VAE's stride or changes, or a second stream on a VAE whose first is still open.
    """
    try:
        caches = TileCaches(vae.encoder, spill=tiling is not None and tiling.spill)
        with exclusive(vae):
            try:
                for chunk in _chunks(frames, vae.config.scale_factor_spatial):
                    yield _encode_one(vae, chunk, caches, tiling)[0, :, 0]
            finally:
                caches.clear()
    finally:
        close(frames)


def _chunks(frames: Iterator[Tensor], stride: int) -> Iterator[list[Tensor]]:
    """Yield the first frame alone, then four at a time."""
    shape, count = torch.Size(), 0
    while chunk := list(islice(frames, 4 if count else 1)):
        shape = shape or chunk[0].shape
        if len(shape) != 3 or shape[0] != 3 or shape[1] % stride or shape[2] % stride:
            raise MediaError(
                f"frame {count} is {tuple(shape)}; this VAE encodes (3, height, width) with sides that are "
                f"multiples of {stride}"
            )
        for index, frame in enumerate(chunk):
            if frame.shape != shape:
                raise MediaError(
                    f"frame {count + index} is {tuple(frame.shape)}, the ones before are {tuple(shape)}; "
                    "all must have one size"
                )
        if count and len(chunk) < 4:
            raise MediaError(
                f"{count + len(chunk)} frames cannot be encoded whole, the last {len(chunk)} would be lost; "
                f"{count} or {count + 4} work"
            )
        count += len(chunk)
        yield chunk
    if not count:
        raise MediaError("there is no frame to encode; one is enough")


@torch.inference_mode()  # per call: around a yield it would leak into the caller
def _encode_one(vae: OwnVae, frames: list[Tensor], caches: TileCaches, tiling: Tiling | None) -> Tensor:
    """Encode 1 or 4 frames (3, H, W). Return the mean, (1, C, 1, h, w)."""
    weight = next(vae.encoder.parameters())
    stride, patch = vae.config.scale_factor_spatial, vae.config.patch_size or 1
    pixels = torch.stack([frame.to(device=weight.device, dtype=weight.dtype) for frame in frames], 1)[None]
    size = max(pixels.shape[-2:])
    pixels = patched(pixels, patch)

    def work(tile: Tensor, place: Tile) -> Tensor:
        with caches.of(place, weight.device) as cache:
            moments: Tensor = vae.quant_conv(vae.encoder(tile, feat_cache=cache, feat_idx=[0]))
        return moments

    if tiling is None or size <= tiling.size:
        moments = work(pixels, (0, 0))
    else:
        moments = in_tiles(pixels, tiling, stride_in=patch, stride_out=stride, work=work)
    return moments.chunk(2, dim=1)[0]
