from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan_duet.pipelines.vae.tile_size import choose_tiling, smaller_tiling, vae_bytes
from wan_duet.pipelines.vae.tiles import Tiling

GIB = 2**30
OLD = {"base_dim": 96}
NEW = {"base_dim": 160, "decoder_base_dim": 256, "patch_size": 2}


def test_the_feature_cache_is_as_large_as_was_measured() -> None:
    """8.1 GiB at 720p for layout 2.1, 6.0 GiB at 1280x704 for 2.2, in float32; the rest is working room."""
    assert 8.1 * GIB < vae_bytes(OLD, "decode", 1280, 720, 4) < 21 * GIB
    assert 6.0 * GIB < vae_bytes(NEW, "decode", 1280, 704, 4) < 23 * GIB


def test_a_picture_that_fits_is_not_cut() -> None:
    assert choose_tiling(80 * GIB, OLD, "decode", 1280, 720, 4) is None


@pytest.mark.parametrize(("can_spill", "spill"), [(True, True), (False, False)])
def test_nobody_knowing_the_free_memory_does_not_mean_that_the_picture_fits(
    can_spill: bool, spill: bool
) -> None:
    tiling = choose_tiling(None, OLD, "decode", 1280, 720, 4, can_spill=can_spill)
    assert tiling == Tiling(256, 192, spill=spill)
    assert smaller_tiling(tiling, 1280, 720, can_spill=can_spill) == Tiling(128, 96, spill=spill)
    assert choose_tiling(None, OLD, "decode", 256, 192, 4, can_spill=can_spill) is None


def test_a_small_picture_is_never_cut() -> None:
    assert choose_tiling(0, OLD, "decode", 112, 64, 4) is None


@pytest.mark.parametrize("config", [OLD, NEW])
@pytest.mark.parametrize("way", ["decode", "encode"])
@given(free=st.integers(0, 40 * GIB), width=st.integers(1, 240), height=st.integers(1, 240))
def test_what_is_chosen_fits_or_is_the_smallest(config, way, free, width, height) -> None:
    width, height = 16 * width, 16 * height
    tiling = choose_tiling(free, config, way, width, height, 2)
    if vae_bytes(config, way, width, height, 2, tiling) > free:
        assert smaller_tiling(tiling, width, height) is None


@given(free=st.integers(0, 40 * GIB), more=st.integers(0, 40 * GIB))
def test_more_memory_never_means_smaller_tiles(free: int, more: int) -> None:
    def pixels(free_bytes: int) -> int:
        tiling = choose_tiling(free_bytes, OLD, "decode", 1280, 720, 4)
        return 1280 if tiling is None else tiling.size

    assert pixels(free + more) >= pixels(free)


def test_going_smaller_ends() -> None:
    tiling, sizes = smaller_tiling(None, 1280, 720), []
    while tiling is not None:
        sizes.append((tiling.size, tiling.spill))
        tiling = smaller_tiling(tiling, 1280, 720)
    assert sizes == [(512, False), (512, True), (256, True), (128, True)]
