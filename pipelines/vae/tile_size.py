"""Decides from the free memory whether an image is cut into tiles, and of which size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from .tiles import Tiling

__all__ = ["Way", "choose_tiling", "smaller_tiling", "vae_bytes"]

Way: TypeAlias = Literal["decode", "encode"]

_SIDES = ((512, 448), (256, 192), (128, 96))
"""Size and stride of tiles. Neighbours share 32 pixels or more, over which one fades into the other."""

_USUAL = 256  # tile_sample_min_height of diffusers' AutoencoderKLWan

_STEPS = (Tiling(*_SIDES[0]), *(Tiling(*sides, spill=True) for sides in _SIDES))
"""From quick to small. Smaller tiles that do not spill would need more: they overlap more."""

# Numbers per output pixel and unit of network width, (feature cache, working room beside it), counted over
# the live tensors of four chunks through the real networks on meta tensors; no size changes them.
_COST = {
    ("2.1", "decode"): (24.7, 26.1),
    ("2.1", "encode"): (14.7, 22.2),
    ("2.2", "decode"): (7.0, 14.1),
    ("2.2", "encode"): (3.7, 7.6),
}
_MARGIN = 1.25  # for what a convolution library takes on top, which differs per device


def vae_bytes(
    config: Mapping[str, Any],
    way: Way,
    width: int,
    height: int,
    itemsize: int,
    tiling: Tiling | None = None,
) -> int:
    """Return the bytes that a stream needs on the device beside the weights.

    config: of the VAE, as in diffusers. width, height: of the video, in pixels. itemsize: of its dtype.
    """
    units = config.get("base_dim", 96)
    if way == "decode":
        units = config.get("decoder_base_dim") or units
    cache, work = _COST["2.2" if config.get("patch_size") else "2.1", way]
    if tiling is None:
        pixels = cached_pixels = width * height
    else:
        pixels = min(width, tiling.size) * min(height, tiling.size)
        cached_pixels = pixels
        if not tiling.spill:
            cached_pixels = _covered(width, tiling) * _covered(height, tiling)
    return int((cache * cached_pixels + _MARGIN * work * pixels) * units * itemsize)


def choose_tiling(
    free_bytes: int | None,
    config: Mapping[str, Any],
    way: Way,
    width: int,
    height: int,
    itemsize: int,
    *,
    can_spill: bool = True,
) -> Tiling | None:
    """The quickest way that fits in `free_bytes`: None for the whole image, else the tiles to cut it into.

    can_spill: whether the device has main memory beside its own; a CPU has not.

    None for `free_bytes` means that nobody knows, which is no reason to think that the image fits: then it
    is the tiles that diffusers takes. The smallest tiles are the answer when not even they fit.
    """
    if free_bytes is None:
        usual = (step for step in _steps(can_spill) if step.size == _USUAL)
        return next((step for step in usual if max(width, height) > step.size), None)
    tiling: Tiling | None = None
    while vae_bytes(config, way, width, height, itemsize, tiling) > free_bytes:
        smaller = smaller_tiling(tiling, width, height, can_spill=can_spill)
        if smaller is None:
            break
        tiling = smaller
    return tiling


def smaller_tiling(
    tiling: Tiling | None, width: int, height: int, *, can_spill: bool = True
) -> Tiling | None:
    """Return the tiling to try after `tiling` did not fit. None if nothing smaller would help."""
    ladder = _steps(can_spill)
    start = 0 if tiling is None else ladder.index(tiling) + 1
    return next((step for step in ladder[start:] if max(width, height) > step.size), None)


def _steps(can_spill: bool) -> tuple[Tiling, ...]:
    return _STEPS if can_spill else tuple(Tiling(*sides) for sides in _SIDES)


def _covered(side: int, tiling: Tiling) -> int:
    """Return the pixels of all tiles along one side; overlaps count as often as they are computed."""
    return sum(min(tiling.size, side - start) for start in range(0, side, tiling.stride))
