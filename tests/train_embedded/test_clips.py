from __future__ import annotations

import hashlib

import numpy as np
import pytest

from tools.train_embedded.clips import FRAMES, PALETTE, SIZES, render
from tools.train_embedded.grammar import Scene
from tools.train_embedded.pool import mixed_clips, render_all, scene_clips

STAR = Scene("star", "pink", "spinning", "navy")


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_clip_has_the_size_it_was_asked_for(width: int, height: int):
    clip = render(STAR, width, height, FRAMES, seed=1)
    assert clip.shape == (17, height, width, 3)
    assert clip.dtype == np.uint8
    assert width % 16 == height % 16 == 0


def test_a_seed_decides_every_byte():
    once, again, other = (render(STAR, 64, 64, 17, seed) for seed in (5, 5, 6))
    assert hashlib.sha256(once).digest() == hashlib.sha256(again).digest()
    assert (once != other).any()


def test_edges_are_anti_aliased():
    clip = render(Scene("ball", "yellow", "right", "black"), 64, 64, 17, seed=3)
    fill, back = np.array(PALETTE["yellow"]), np.array(PALETTE["black"])
    between = ((clip != fill).any(-1) & (clip != back).any(-1)).sum((1, 2))
    assert between.min() >= 20


@pytest.mark.parametrize("motion", ["left", "right", "up", "down", "growing", "circling", "hopping"])
def test_the_object_stays_in_the_frame(motion: str):
    for seed in range(12):
        clip = render(Scene("square", "red", motion, "white"), 64, 64, 17, seed)
        rim = np.concatenate([clip[:, 0].reshape(-1, 3), clip[:, :, 0].reshape(-1, 3)])
        assert (rim == np.array(PALETTE["white"])).all()


def test_looks_change_the_object_and_not_its_way():
    plain, outlined, striped = (
        render(STAR, 64, 64, 17, 9, look) for look in ("plain", "outlined", "striped")
    )
    masks = [(clip != clip[0, 0, 0]).any(-1) for clip in (plain, outlined, striped)]
    assert (masks[0] == masks[1]).mean() > 0.99
    assert (masks[0] == masks[2]).mean() > 0.99
    assert (plain != outlined).any()
    assert (plain != striped).any()


def test_a_pool_is_addressed_by_number_alone():
    assert scene_clips("a", 8)[5:] == scene_clips("a", 3, offset=5)
    assert scene_clips("a", 8) != scene_clips("b", 8)
    clips = mixed_clips("a", 70)
    one, two = render_all(clips, workers=1), render_all(clips, workers=2)
    assert all((first == second).all() for first, second in zip(one, two, strict=True))
