from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from wan_duet.pipelines.device.ram import trim_heap
from wan_duet.pipelines.errors import MediaError
from wan_duet.pipelines.vae.decode import stream_decode
from wan_duet.pipelines.vae.tiles import Tiling

from ..anonymous_memory import anonymous_bytes, only_on_linux
from .tiny_vae import LAYOUTS, make_vae


def some_latents(vae: AutoencoderKLWan, frames: int = 3) -> Tensor:
    return torch.randn(1, vae.config.z_dim, frames, 4, 6, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def whole(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    return vae.decode(latents.to(vae.dtype)).sample


def streamed(vae: AutoencoderKLWan, latents: Tensor, tiling: Tiling | None = None) -> Tensor:
    return torch.stack(list(stream_decode(vae, latents, tiling=tiling)), 1)[None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("frames", [1, 4])
def test_streamed_frames_are_the_bits_of_a_whole_decode(layout: str, dtype: torch.dtype, frames: int) -> None:
    vae = make_vae(layout, dtype)
    latents = some_latents(vae, frames)
    assert torch.equal(streamed(vae, latents), whole(vae, latents))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("size", "stride"), [(32, 16), (32, 32)])
def test_tiled_frames_are_the_bits_of_a_tiled_decode(
    layout: str, dtype: torch.dtype, size: int, stride: int
) -> None:
    vae = make_vae(layout, dtype)
    latents = some_latents(vae)
    tiled = streamed(vae, latents, Tiling(size, stride, spill=True))
    assert not torch.equal(tiled, whole(vae, latents))
    vae.enable_tiling(size, size, stride, stride)
    assert torch.equal(tiled, whole(vae, latents))


def test_a_picture_that_is_one_tile_is_not_cut() -> None:
    vae = make_vae()
    latents = some_latents(vae)
    assert torch.equal(streamed(vae, latents, Tiling(48, 32)), whole(vae, latents))


def test_only_as_much_is_decoded_as_was_asked_for() -> None:
    vae, calls = make_vae(), []
    vae.decoder.register_forward_hook(lambda *_: calls.append(1))
    latents = some_latents(vae, 4)
    frames = list(stream_decode(vae, latents, frames=4))
    assert torch.equal(torch.stack(frames, 1), whole(vae, latents)[0, :, :4])
    assert len(calls) == 2 + 4  # ours for 1 + 4 frames, and all four of the whole decode


def test_frames_come_before_the_rest_is_decoded() -> None:
    vae, calls = make_vae(), []
    vae.decoder.register_forward_hook(lambda *_: calls.append(1))
    next(stream_decode(vae, some_latents(vae)))
    assert len(calls) == 1


def test_a_second_stream_on_one_vae_is_refused_until_the_first_is_closed() -> None:
    vae = make_vae()
    latents = some_latents(vae)
    first = stream_decode(vae, latents)
    next(first)
    with pytest.raises(MediaError, match="already at work"):
        next(stream_decode(vae, latents))
    first.close()
    assert torch.equal(streamed(vae, latents), whole(vae, latents))


def test_a_decode_by_somebody_else_in_between_does_not_disturb_the_stream() -> None:
    vae = make_vae()
    latents = some_latents(vae)
    stream = stream_decode(vae, latents)
    frames = [next(stream)]
    expected = whole(vae, latents)
    frames += list(stream)
    assert torch.equal(torch.stack(frames, 1)[None], expected)


@pytest.mark.parametrize("tiling", [None, Tiling(32, 16)])
@pytest.mark.parametrize("how", ["finished", "closed", "failed"])
def test_the_caches_are_given_back_on_every_exit(how: str, tiling: Tiling | None) -> None:
    vae, caches = make_vae(), []
    hook = vae.decoder.register_forward_pre_hook(
        lambda _module, _args, kwargs: caches.append(kwargs["feat_cache"]), with_kwargs=True
    )
    stream = stream_decode(vae, some_latents(vae), tiling=tiling)
    next(stream)
    assert any(torch.is_tensor(entry) for entry in caches[0])
    if how == "finished":
        list(stream)
    elif how == "closed":
        stream.close()
    else:
        vae.decoder.register_forward_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            next(stream)
    assert all(cache == [] for cache in caches)
    hook.remove()
    vae.decoder._forward_hooks.clear()
    assert torch.equal(streamed(vae, some_latents(vae)), whole(vae, some_latents(vae)))


def test_the_caller_is_not_left_in_inference_mode() -> None:
    vae = make_vae()
    stream = stream_decode(vae, some_latents(vae))
    next(stream)
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("shape", [(4, 3, 4, 6), (2, 4, 3, 4, 6), (1, 16, 3, 4, 6), (1, 4, 0, 4, 6)])
def test_latents_of_another_shape_are_refused_before_anything_runs(shape: tuple[int, ...]) -> None:
    with pytest.raises(MediaError, match="this VAE decodes"):
        stream_decode(make_vae(), torch.zeros(shape))


@only_on_linux
def test_what_the_layers_worked_with_goes_back_to_the_system() -> None:
    vae = make_vae()
    for _ in stream_decode(vae, torch.zeros(1, 4, 3, 32, 32)):
        held = anonymous_bytes()
        trim_heap()
        assert held - anonymous_bytes() <= 2**22
