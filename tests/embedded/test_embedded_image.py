"""The embedded pair that begins with a picture keeps it, ends where it is told to, and minds the prompt.

The bars stand below what was measured by what so few clips can scatter.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from image_drawing import Drawn, apart, drawn

from wan_duet.pipelines.embedded.detector import look_at
from wan_duet.pipelines.embedded.toy_model import EMBEDDED, TOY_IMAGE
from wan_duet.pipelines.loading.wan_model import WanModel, load_model

pytestmark = pytest.mark.skipif(
    not (Path(EMBEDDED[TOY_IMAGE]) / "model_index.json").is_file(),
    reason="this copy has no embedded model that begins with a picture",
)
CLIPS, SEED, STEPS = 3, 11, 10


@pytest.fixture(scope="module")
def model() -> WanModel:
    return load_model(TOY_IMAGE)


@pytest.fixture(scope="module")
def begun(model: WanModel) -> Drawn:
    return drawn(model, CLIPS, SEED, ends=False, num_inference_steps=STEPS)


@pytest.fixture(scope="module")
def ended(model: WanModel) -> Drawn:
    return drawn(model, CLIPS, SEED, ends=True, num_inference_steps=STEPS)


def test_the_first_frame_is_the_picture(begun: Drawn) -> None:
    assert all(apart(clip[0], given[0]) < 6 for _, given, clip in begun)  # of 255; measured up to 4.1


def test_the_prompt_moves_what_is_in_the_picture(begun: Drawn) -> None:
    """The picture has colour and background; only the prompt says where to."""
    seen = [(scene, look_at(clip)) for scene, _, clip in begun]
    assert sum(scene.colour == there.colour for scene, there in seen) >= CLIPS - 1
    assert sum(scene.motion == there.motion for scene, there in seen) >= CLIPS - 1


def test_the_last_frame_is_the_picture_to_end_with(ended: Drawn, begun: Drawn) -> None:
    """Where without it the prompt alone decides how far things go."""
    to_end, by_chance = ([apart(clip[-1], given[-1]) for _, given, clip in clips] for clips in (ended, begun))
    assert max(to_end) < 7  # measured up to 5.1
    assert sum(to_end) < 0.85 * sum(by_chance)  # measured 0.72
