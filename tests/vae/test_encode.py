from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from wan_duet.pipelines.errors import MediaError
from wan_duet.pipelines.vae.encode import stream_encode
from wan_duet.pipelines.vae.tiles import Tiling

from .tiny_vae import LAYOUTS, make_vae


def some_pixels(frames: int = 9, height: int = 32, width: int = 128) -> Tensor:
    """(1, 3, T, H, W) in [-1, 1]. Of 2x3 latents the last bit may differ: libraries have a way for so few."""
    return torch.rand(1, 3, frames, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


def frames_of(pixels: Tensor) -> Iterator[Tensor]:
    yield from pixels[0].unbind(1)


@torch.no_grad()
def whole(vae: AutoencoderKLWan, pixels: Tensor) -> Tensor:
    return vae.encode(pixels.to(vae.dtype)).latent_dist.mode()


def streamed(vae: AutoencoderKLWan, pixels: Tensor, tiling: Tiling | None = None) -> Tensor:
    return torch.stack(list(stream_encode(vae, frames_of(pixels), tiling=tiling)), 1)[None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("frames", [1, 9])
def test_streamed_latents_are_the_bits_of_a_whole_encode(
    layout: str, dtype: torch.dtype, frames: int
) -> None:
    vae, pixels = make_vae(layout, dtype), some_pixels(frames)
    assert torch.equal(streamed(vae, pixels), whole(vae, pixels))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_tiled_latents_are_the_bits_of_a_tiled_encode(layout: str, dtype: torch.dtype) -> None:
    vae, pixels = make_vae(layout, dtype), some_pixels(5, 64, 96)
    tiled = streamed(vae, pixels, Tiling(64, 32, spill=True))
    assert not torch.equal(tiled, whole(vae, pixels))
    patch = vae.config.patch_size or 1  # diffusers cuts after patching, so its tiles are larger by that
    vae.enable_tiling(64 // patch, 64 // patch, 32 // patch, 32 // patch)
    assert torch.equal(tiled, whole(vae, pixels))


def test_a_latent_comes_as_soon_as_its_frames_are_there() -> None:
    vae, read = make_vae(), []

    def frames() -> Iterator[Tensor]:
        for frame in frames_of(some_pixels()):
            read.append(1)
            yield frame

    stream = stream_encode(vae, frames())
    next(stream)
    assert len(read) == 1
    next(stream)
    assert len(read) == 5


@pytest.mark.parametrize(
    ("frames", "message"), [(0, "no frame"), (4, "4 frames .* 1 or 5 work"), (7, "last 2 would be lost")]
)
def test_frames_that_would_be_dropped_are_refused(frames: int, message: str) -> None:
    with pytest.raises(MediaError, match=message):
        list(stream_encode(make_vae(), frames_of(some_pixels(frames))))


def test_a_size_that_the_vae_cannot_halve_is_refused() -> None:
    with pytest.raises(MediaError, match=r"frame 0 is \(3, 36, 128\).*multiples of 8"):
        next(stream_encode(make_vae(), frames_of(some_pixels(1, 36))))


def test_frames_of_two_sizes_are_refused() -> None:
    frames = [torch.zeros(3, 32, 48), *[torch.zeros(3, 32, 40)] * 4]
    with pytest.raises(MediaError, match="frame 1 is"):
        list(stream_encode(make_vae(), iter(frames)))


@pytest.mark.parametrize("how", ["closed", "failed"])
def test_source_and_vae_are_free_again_after_every_exit(how: str) -> None:
    vae, source = make_vae(), frames_of(some_pixels())
    stream = stream_encode(vae, source)
    next(stream)
    with pytest.raises(MediaError, match="already at work"):
        next(stream_encode(vae, frames_of(some_pixels())))
    if how == "closed":
        stream.close()
    else:
        hook = vae.encoder.register_forward_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            next(stream)
        hook.remove()
    assert list(source) == []
    assert torch.equal(streamed(vae, some_pixels()), whole(vae, some_pixels()))
