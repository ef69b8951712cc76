from __future__ import annotations

import numpy as np

from tools.train_embedded.clips import SIZES, render
from tools.train_embedded.grammar import random_scene, scenes
from wan_duet.pipelines.embedded.detector import look_at

SCENES = list(scenes())
COUNT = 100
ATTRIBUTES = ("shape", "colour", "motion", "background")


def test_the_detector_reads_rendered_clips():
    """At least 99 % in every attribute, or its verdict on a trained model would mean nothing."""
    right = dict.fromkeys(ATTRIBUTES, 0)
    rng = np.random.default_rng(1)
    for index in range(COUNT):
        scene = random_scene(rng, SCENES)
        seen = look_at(render(scene, *SIZES[index % 3], 17, int(rng.integers(2**31))))
        for name in right:
            right[name] += getattr(seen, name) == getattr(scene, name)
    assert {name: hits / COUNT >= 0.99 for name, hits in right.items()} == dict.fromkeys(right, True), right


def test_the_detector_bears_noise_and_blur():
    """A decoded clip is never clean: Gaussian noise of 8 levels and a 3x3 box blur must not fool it often."""
    rng = np.random.default_rng(2)
    right = 0
    for index in range(30):
        scene = random_scene(rng, SCENES)
        clip = render(scene, *SIZES[index % 3], 17, index).astype(float)
        blurred = sum(np.roll(clip, (dy, dx), (1, 2)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)) / 9
        seen = look_at((blurred + rng.normal(0, 8, clip.shape)).clip(0, 255).astype(np.uint8))
        right += all(
            getattr(seen, name) == getattr(scene, name)
            for name in ("shape", "colour", "motion", "background")
        )
    assert right >= 28


def test_an_empty_clip_shows_a_background_and_nothing_else():
    seen = look_at(np.full((17, 64, 64, 3), 128, np.uint8))
    assert (seen.shape, seen.colour, seen.motion, seen.background) == (None, None, None, "gray")


def test_noise_is_not_a_scene():
    seen = look_at(np.random.default_rng(0).integers(0, 255, (17, 64, 64, 3), dtype=np.uint8))
    assert (seen.shape, seen.motion) == (None, None)


def test_the_lora_tricks_are_measured():
    rng = np.random.default_rng(3)
    for index in range(10):
        scene = random_scene(rng, [s for s in SCENES if s.shape in ("ball", "square")])
        circling = look_at(render(scene.with_motion("circling"), 64, 64, 17, index))
        straight = look_at(render(scene.with_motion("left"), 64, 64, 17, index))
        hopping = look_at(render(scene.with_motion("hopping"), 64, 64, 17, index, "striped"))
        outlined = look_at(render(scene.with_motion("left"), 64, 64, 17, index, "outlined"))
        assert circling.winding_degrees > 270 > 90 > straight.winding_degrees
        assert circling.roamed > 0.3 > 0.1 > straight.roamed
        assert hopping.bounces >= 2 > straight.bounces
        assert min(hopping.ink, outlined.ink) > 0.1 > straight.ink
