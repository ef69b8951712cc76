"""The embedded model draws what its prompt says: as well as its card says, and no worse.

A few prompts here; bench/prompt_following.py asks 96 and prints the table of the card.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from detector import Seen, look_at

from wan_duet.pipelines.local import run
from wan_duet.pipelines.memory import DeviceMemory
from wan_duet.pipelines.models.wan_model import load_model
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request import t2v_request
from wan_duet.pipelines.toy.embedded import toy_folder
from wan_duet.pipelines.toy.grammar import held_out_scenes, prompt_of

PROMPTS = 8


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[object, Seen]]:
    rng, model = np.random.default_rng(5), load_model("toy")
    out, memory = tmp_path_factory.mktemp("drawn") / "a.mp4", DeviceMemory("cpu")
    pairs = []
    for seed in range(PROMPTS):
        scene = held_out_scenes()[int(rng.integers(len(held_out_scenes())))]
        request = t2v_request(
            prompt=prompt_of(scene, rng), seed=seed, aspect_ratio="1:1", interpolator_model="none"
        )
        images = run(request, model, out=out, memory=memory, progress=Silent(), return_images=True).images
        assert images is not None
        pairs.append((scene, look_at((images.numpy() * 255).round().astype(np.uint8))))
    return pairs


@pytest.mark.parametrize(("name", "at_least"), [("colour", 7), ("background", 7), ("motion", 5)])
def test_prompts_of_scenes_it_never_saw_are_followed(
    drawn: list[tuple[object, Seen]], name: str, at_least: int
) -> None:
    assert sum(getattr(scene, name) == getattr(seen, name) for scene, seen in drawn) >= at_least


def test_it_is_small_enough_to_ship() -> None:
    size = sum(file.stat().st_size for file in Path(toy_folder()).rglob("*") if file.is_file())
    assert size <= 48 * 2**20
