"""Latents to frames, one latent frame at a time.

The Wan VAE is causal: it keeps two past inputs of every convolution and needs nothing of the future. Feeding
it one latent frame after the other therefore gives the bits of a whole decode: 1 frame, then 4 for each.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import MediaError

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan

__all__ = ["stream_decode"]

_streaming: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()
_streaming_lock = threading.Lock()


def stream_decode(vae: AutoencoderKLWan, latents: Tensor, *, frames: int | None = None) -> Iterator[Tensor]:
    """Decode `latents` as they are asked for; the same bits as `vae.decode`, never tiled.

    Args:
        vae: 2.1 or 2.2 layout, where its weights are and in their dtype.
        latents: (1, C, T, h, w), un-normalised VAE space, any device and float dtype.
        frames: stop after this many, for clips that are shorter than 4 T - 3; all when left out.

    Yields:
        (3, H, W) in [-1, 1], on the VAE's device and in its dtype.

    Raises:
        MediaError: latents of another shape, or a second stream on a VAE whose first is still open: memory is
            planned for the cache of one.
    """
    channels = vae.config.z_dim
    if latents.ndim != 5 or latents.shape[:2] != (1, channels) or not latents.shape[2]:
        raise MediaError(
            f"these latents are {tuple(latents.shape)}; "
            f"this VAE decodes one clip of shape (1, {channels}, frames, height, width)"
        )
    return _decode(vae, latents, frames)


def _decode(vae: AutoencoderKLWan, latents: Tensor, frames: int | None) -> Iterator[Tensor]:
    with _streaming_lock:
        if vae in _streaming:
            raise MediaError("this VAE is already decoding another clip; finish or close that stream first")
        _streaming.add(vae)
    # A cache of our own: the one inside the module would be wiped by anybody else's vae.decode in between.
    cache: list[Any] = [None] * sum(_is_cached(module) for module in vae.decoder.modules())
    left = frames
    try:
        for index in range(latents.shape[2]):
            if left is not None and left <= 0:
                return
            chunk = _decode_one(vae, latents[:, :, index : index + 1], cache, first=index == 0)
            yield from chunk[0].unbind(1)[:left]
            left = None if left is None else left - chunk.shape[2]
    finally:
        cache.clear()
        with _streaming_lock:
            _streaming.discard(vae)


@torch.inference_mode()  # per call: around a yield it would leak into the caller
def _decode_one(vae: AutoencoderKLWan, latent: Tensor, cache: list[Any], *, first: bool) -> Tensor:
    """(1, C, 1, h, w) -> (1, 3, 1 or 4, H, W) in [-1, 1]."""
    weight = next(vae.decoder.parameters())
    latent = vae.post_quant_conv(latent.to(device=weight.device, dtype=weight.dtype))
    pixels: Tensor = vae.decoder(latent, feat_cache=cache, feat_idx=[0], first_chunk=first)
    patch = vae.config.patch_size
    if patch:
        pixels = _unpatched(pixels, patch)
    return pixels.clamp(-1.0, 1.0)


def _unpatched(pixels: Tensor, patch: int) -> Tensor:
    """(B, 3 p p, T, h, w) -> (B, 3, T, h p, w p); within a patch the channels run column by column."""
    batch, channels, frames, height, width = pixels.shape
    blocks = pixels.view(batch, channels // patch**2, patch, patch, frames, height, width)
    return blocks.permute(0, 1, 4, 5, 3, 6, 2).reshape(batch, -1, frames, height * patch, width * patch)


def _is_cached(module: torch.nn.Module) -> bool:
    return type(module).__name__ == "WanCausalConv3d"
