"""The stages of a local run that go through the VAE, as functions: encode frames, decode latents.

The building-block nodes call them as a run does, so both give the same bits. `stages.py` has the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..device.memory import Memory, compute_dtype
from ..errors import ModelError
from ..loading.host_model import HostModel, has_whole_vae
from ..parallel.rank_group import RankGroup
from ..parallel.row_share import RowShare
from ..progress import Progress
from ..vae.decode import stream_decode
from ..vae.encode import stream_encode
from ..vae.latent_space import load_model_vae
from ..vae.standalone import HasVae
from ..vae.tiles import Tiling
from ..video.frame_stream import close
from .memory_estimate import frame_size, vae_working_bytes
from .stages import require_finite_values

__all__ = ["decode", "encode"]


def encode(
    model: HasVae,
    frames: Iterator[Tensor],
    latent_shape: Sequence[int],
    memory: Memory,
    progress: Progress,
    *,
    tiling: Tiling | None = None,
) -> Tensor:
    """Encode `frames` (3, H, W) in [-1, 1]. Returns latents (1, C, T, H/8, W/8) in VAE space, float32, CPU.

    latent_shape: (..., T, H/8, W/8) of the result.
    tiling:       encode in tiles; None encodes whole frames. See `memory_estimate.vae_tiling`.
    """
    if has_whole_vae(model):
        return _encode_whole(model, frames, latent_shape)
    memory = memory.for_part("vae")
    try:
        return _encode_frames(model, frames, latent_shape, memory, progress, tiling)
    finally:
        close(frames)
        memory.release()


def decode(
    model: HasVae,
    latents: Tensor,
    memory: Memory,
    progress: Progress,
    *,
    frames: int | None = None,
    tiling: Tiling | None = None,
    group: RankGroup | None = None,
) -> Iterator[Tensor]:
    """Decode `latents` (1, C, T, H/8, W/8) in VAE space. Yields frames (3, H, W) in [-1, 1].

    frames: stop after so many frames; None decodes all.
    tiling: decode in tiles; None decodes whole frames. See `memory_estimate.vae_tiling`.
    group:  the ranks that decode whole frames together, each of which calls this; see `stream_decode`.

    Loads the VAE at the first frame and unloads it when the iterator ends or is closed.
    """
    if has_whole_vae(model):
        yield from _decode_whole(model, latents, frames)
        return
    memory = memory.for_part("vae")
    try:
        yield from _decode_frames(model, latents, memory, progress, frames, tiling, group)
    finally:
        memory.release()


def _encode_frames(
    model: HasVae,
    frames: Iterator[Tensor],
    latent_shape: Sequence[int],
    memory: Memory,
    progress: Progress,
    tiling: Tiling | None,
) -> Tensor:
    # A function of its own, as the next: its VAE is gone when the caller releases the memory.
    progress.begin("input", latent_shape[-3], "latent frames")
    dtype = compute_dtype(model.precision, memory, "vae")
    working = vae_working_bytes(model, "decode", latent_shape, dtype, tiling)  # encoding takes less
    vae = load_model_vae(model, dtype, memory, progress.check, working)
    done: list[Tensor] = []
    for latent in stream_encode(vae, frames, tiling=tiling):
        progress.check()
        done.append(latent.float().cpu())
        progress.advance(len(done))
    latents = torch.stack(done, 1)[None]
    require_finite_values(input=latents)
    return latents


def _decode_frames(
    model: HasVae,
    latents: Tensor,
    memory: Memory,
    progress: Progress,
    frames: int | None,
    tiling: Tiling | None,
    group: RankGroup | None,
) -> Iterator[Tensor]:
    dtype = compute_dtype(model.precision, memory, "vae")
    working = vae_working_bytes(model, "decode", latents.shape, dtype, tiling)
    rows = None if group is None else RowShare(group, latents.shape[-2])
    vae = load_model_vae(model, dtype, memory, progress.check, working, rows)
    yield from stream_decode(vae, latents, frames=frames, tiling=tiling)


def _encode_whole(model: HostModel, frames: Iterator[Tensor], latent_shape: Sequence[int]) -> Tensor:
    """Encode all frames at once, by a VAE that only the host can run."""
    shown = torch.stack([frame.movedim(0, -1) for frame in frames]).float()
    latents = model.networks.encode_whole((shown + 1) / 2)
    if tuple(latents.shape[-3:]) != tuple(latent_shape[-3:]):
        raise ModelError(
            f"vae: {model.whole_vae} encodes to {tuple(latents.shape[-3:])}, but this run needs "
            f"{tuple(latent_shape[-3:])}; connect a Wan VAE"
        )
    require_finite_values(input=latents)
    return latents


def _decode_whole(model: HostModel, latents: Tensor, frames: int | None) -> Iterator[Tensor]:
    """Decode all frames at once, by a VAE that only the host can run."""
    images = model.networks.decode_whole(latents)
    width, height = frame_size(model, latents.shape)
    wanted = (latents.shape[2] - 1) * model.family.vae_stride[0] + 1, height, width
    if tuple(images.shape[:3]) != wanted:
        raise ModelError(
            f"vae: {model.whole_vae} decodes to {tuple(images.shape[:3])} frames, rows and columns, but this "
            f"run needs {wanted}; connect a Wan VAE"
        )
    for image in images[:frames]:
        yield image.movedim(-1, 0) * 2 - 1
