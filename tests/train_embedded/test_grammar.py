from __future__ import annotations

import subprocess
import sys

import numpy as np

from tools.train_embedded.grammar import (
    ATTRIBUTES,
    Scene,
    held_out_scenes,
    is_held_out,
    partial_prompt,
    prompt_of,
    scenes,
    training_scenes,
)


def test_the_vocabulary_is_as_rich_as_promised():
    assert set(ATTRIBUTES["shape"]) == {"ball", "square", "triangle", "star"}
    assert len(ATTRIBUTES["colour"]) >= 8
    assert set(ATTRIBUTES["motion"]) == {"left", "right", "up", "down", "growing", "spinning"}
    assert len(ATTRIBUTES["background"]) >= 4


def test_object_and_background_are_never_of_one_colour():
    pairs = {(scene.colour, scene.background) for scene in scenes()}
    assert not pairs & {("blue", "navy"), ("orange", "brown")}
    assert all(colour != background for colour, background in pairs)


def test_nothing_spins_that_cannot_be_seen_spinning():
    assert not any(scene.shape == "ball" and scene.motion == "spinning" for scene in scenes())


def test_held_out_scenes_are_never_trained_on_and_cover_every_word():
    held, trained = held_out_scenes(), training_scenes()
    assert not set(held) & set(trained)
    assert len(held) + len(trained) == len(list(scenes()))
    assert len(held) >= 96
    for name, values in ATTRIBUTES.items():
        assert {getattr(scene, name) for scene in held} == set(values)


def test_the_split_is_the_same_in_another_process():
    program = "from tools.train_embedded.grammar import held_out_scenes as h;print(sorted(map(repr, h())))"
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert printed.strip() == str(sorted(map(repr, held_out_scenes())))


def test_a_scene_has_several_phrasings_and_a_seed_picks_one():
    scene = Scene("ball", "orange", "left", "gray")
    phrasings = {prompt_of(scene, np.random.default_rng(seed)) for seed in range(60)}
    assert len(phrasings) >= 30
    assert prompt_of(scene, np.random.default_rng(7)) == prompt_of(scene, np.random.default_rng(7))
    assert not any("a orange" in text for text in phrasings)


def test_a_partial_prompt_tells_what_it_names():
    scene = Scene("star", "green", "spinning", "black")
    for seed in range(40):
        text, named = partial_prompt(scene, np.random.default_rng(seed))
        assert ("green" in text) == ("colour" in named)
        assert ("star" in text) == ("shape" in named)
        assert ("black" in text) == ("background" in named)


def test_the_lora_motions_are_not_in_the_training_set():
    assert not any(scene.motion in ("circling", "hopping") for scene in training_scenes())
    assert is_held_out(held_out_scenes()[0])
