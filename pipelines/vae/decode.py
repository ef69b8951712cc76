"""Decodes latents into frames, one latent frame at a time.

The Wan VAE is causal: every convolution needs its two past inputs and no future one. So decoding one latent
frame after the other gives the same bits as decoding all at once: 1 frame, then 4 for each latent frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..device.ram import trim_heap
from ..errors import MediaError
from .stream import exclusive, unpatched
from .tiles import Tile, TileCaches, Tiling, in_tiles

if TYPE_CHECKING:
    from .own_vae import OwnVae

__all__ = ["stream_decode"]


def stream_decode(
    vae: OwnVae, latents: Tensor, *, frames: int | None = None, tiling: Tiling | None = None
) -> Iterator[Tensor]:
    """Decode `latents` as they are asked for; the same bits as `vae.decode`, or its `tiled_decode`.

    Args:
        vae: 2.1 or 2.2 layout, where its weights are and in their dtype.
        latents: (1, C, T, h, w), un-normalised VAE space, any device and float dtype.
        frames: stop after this many, for clips that are shorter than 4 T - 3; all when left out.
        tiling: cut images that are larger than its tiles.

    Yields:
        (3, H, W) in [-1, 1], on the VAE's device and in its dtype. Of several ranks that decode together
        only the first one gets whole frames; the others get their rows, and must ask for as many frames.

    Raises:
        MediaError: latents of another shape, or a second stream on a VAE whose first is still open.
    """
    channels = vae.config.z_dim
    if latents.ndim != 5 or latents.shape[:2] != (1, channels) or not latents.shape[2]:
        raise MediaError(
            f"these latents are {tuple(latents.shape)}; "
            f"this VAE decodes one clip of shape (1, {channels}, frames, height, width)"
        )
    return _decode(vae, latents, frames, tiling)


def _decode(vae: OwnVae, latents: Tensor, frames: int | None, tiling: Tiling | None) -> Iterator[Tensor]:
    caches = TileCaches(vae.decoder, spill=tiling is not None and tiling.spill)
    left = frames
    with exclusive(vae):
        try:
            for index in range(latents.shape[2]):
                if left is not None and left <= 0:
                    return
                chunk = _decode_one(vae, latents[:, :, index : index + 1], caches, tiling, first=index == 0)
                if chunk.device.type == "cpu":
                    trim_heap()  # else what the layers worked with stays with the process, in many pieces
                yield from chunk[0].unbind(1)[:left]
                left = None if left is None else left - chunk.shape[2]
        finally:
            caches.clear()


@torch.inference_mode()  # per call: around a yield it would leak into the caller
def _decode_one(
    vae: OwnVae, latent: Tensor, caches: TileCaches, tiling: Tiling | None, *, first: bool
) -> Tensor:
    """Decode (1, C, 1, h, w) to (1, 3, 1 or 4, H, W) in [-1, 1]."""
    weight, rows = next(vae.decoder.parameters()), getattr(vae.decoder, "rows", None)  # a stock VAE has none
    latent = latent.to(device=weight.device, dtype=weight.dtype)
    stride, patch = vae.config.scale_factor_spatial, vae.config.patch_size or 1

    def work(tile: Tensor, place: Tile) -> Tensor:
        with caches.of(place, weight.device) as cache:
            decoded: Tensor = vae.decoder(
                vae.post_quant_conv(tile), feat_cache=cache, feat_idx=[0], first_chunk=first
            )
        return decoded

    if rows is not None:
        pixels = rows.join_at_first(work(rows.take(latent), (0, 0)))
    elif tiling is None or max(latent.shape[-2:]) * stride <= tiling.size:
        pixels = work(latent, (0, 0))
    else:
        pixels = in_tiles(latent, tiling, stride_in=stride, stride_out=patch, work=work)
    return unpatched(pixels, patch).clamp(-1.0, 1.0)
