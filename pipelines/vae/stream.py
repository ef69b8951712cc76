"""What streamed encoding and decoding share: exclusive use, the feature cache, the patches of layout 2.2."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from ..errors import MediaError

if TYPE_CHECKING:
    from .own_vae import OwnVae

__all__ = ["Cache", "exclusive", "new_cache", "patched", "unpatched"]

Cache: TypeAlias = list[Any]
"""One entry per causal convolution: its last two inputs, a marker of the network's own, or None at the start.

A list of ours: the one inside the module would be wiped by anybody else's `vae.decode` in between.
"""

_running: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()
_running_lock = threading.Lock()


@contextmanager
def exclusive(vae: OwnVae) -> Iterator[None]:
    """Raise MediaError if `vae` already serves a stream: memory is planned for one cache."""
    with _running_lock:
        if vae in _running:
            raise MediaError("this VAE is already at work on another clip; finish or close that stream first")
        _running.add(vae)
    try:
        yield
    finally:
        with _running_lock:
            _running.discard(vae)


def new_cache(network: torch.nn.Module) -> Cache:
    """Return an empty cache for the encoder or the decoder of a VAE."""
    return [None] * sum(type(module).__name__ == "WanCausalConv3d" for module in network.modules())


def patched(pixels: Tensor, patch: int) -> Tensor:
    """Convert (B, C, T, h p, w p) to (B, C p p, T, h, w). The channels of a patch are in column order."""
    batch, channels, frames, height, width = pixels.shape
    blocks = pixels.view(batch, channels, frames, height // patch, patch, width // patch, patch)
    return blocks.permute(0, 1, 6, 4, 2, 3, 5).reshape(
        batch, channels * patch**2, frames, height // patch, width // patch
    )


def unpatched(pixels: Tensor, patch: int) -> Tensor:
    """Undo `patched`."""
    batch, channels, frames, height, width = pixels.shape
    blocks = pixels.view(batch, channels // patch**2, patch, patch, frames, height, width)
    return blocks.permute(0, 1, 4, 5, 3, 6, 2).reshape(batch, -1, frames, height * patch, width * patch)
