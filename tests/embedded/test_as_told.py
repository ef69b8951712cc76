from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from tools.train_embedded.clips import render
from tools.train_embedded.grammar import Scene, prompt_of, scenes
from wan_duet.pipelines.embedded.as_told import detector_scores, told

STAR = Scene("star", "purple", "up", "white")


def test_every_phrasing_of_a_scene_tells_that_scene() -> None:
    rng = np.random.default_rng(0)
    wrong = [prompt for scene in scenes() if told(prompt := prompt_of(scene, rng)) != asdict(scene)]
    assert not wrong


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("a cat in the snow", {}),
        ("a red ball and a blue ball", {"shape": "ball"}),
        ("A STAR, on navy blue", {"shape": "star", "background": "navy"}),
        ("it scored redness upright", {}),
    ],
)
def test_what_is_not_said_or_said_twice_is_left_out(prompt: str, said: dict[str, str]) -> None:
    assert told(prompt) == said


def test_a_clip_is_scored_by_what_its_prompt_says() -> None:
    clip = render(STAR, 64, 64, 17, 1)
    right = detector_scores(clip, "a violet star rising on a white background")
    assert [value for name, value in right.items() if name.endswith("_as_told")] == [1.0] * 4
    other = detector_scores(clip, "a violet ball, falling")
    told_of = {name.removesuffix("_as_told"): other[name] for name in other if name.endswith("_as_told")}
    assert told_of == {"shape": 0.0, "colour": 1.0, "motion": 0.0, "background": None}


def test_what_loras_do_is_measured() -> None:
    prompt = "a purple star"
    circling = detector_scores(render(STAR.with_motion("circling"), 64, 64, 17, 1), prompt)
    plain = detector_scores(render(STAR, 64, 64, 17, 1), prompt)
    assert (circling["winding_degrees"] or 0) > 270 > 90 > (plain["winding_degrees"] or 0)
    outlined = detector_scores(render(STAR, 64, 64, 17, 1, "outlined"), prompt)
    assert (outlined["ink"] or 0) > 0.1 > (plain["ink"] or 0)
