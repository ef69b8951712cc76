"""Every kind of request that begins with a picture or needs another model than A14B text to video, from the
request to the file, on tiny random models.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tiny_models import Maker, make_model, make_toy_image

from wan_duet.pipelines.errors import ModelError, RequestError
from wan_duet.pipelines.local import Result, repeat, run
from wan_duet.pipelines.media.probe import probe
from wan_duet.pipelines.memory import DeviceMemory
from wan_duet.pipelines.models.wan_model import WanModel, load_model
from wan_duet.pipelines.output import sidecar
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.receipt import read_receipt
from wan_duet.pipelines.request import class_of, parse

MEMORY = DeviceMemory("cpu")
SHORT = {"prompt": "red ball", "seed": 7, "num_frames": 17, "num_inference_steps": 2}
PLAIN = {"interpolator_model": "none"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    made: dict[str, WanModel] = {}

    def of(family: str) -> WanModel:
        if family not in made:
            folder = tmp_path_factory.mktemp(family)
            made[family] = (
                load_model(make_toy_image(folder))
                if family == "toy-image"
                else make_model(family, folder, name="fastwan_4steps")  # distilled, as far as a name tells
            )
        return made[family]

    return of


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pictures")
    files = {}
    for field, colour in (("image_url", "orangered"), ("end_image_url", "navy")):
        file = folder / f"{field}.png"
        Image.new("RGB", (90, 60), colour).save(file)
        files[field] = str(file)
    return files


def make(kind: str, model: WanModel, out: Path, **values: Any) -> Result:
    fields = class_of(kind).model_fields
    asked = {name: value for name, value in {**SHORT, **PLAIN, **values}.items() if name in fields}
    if kind.startswith("legacy"):
        asked["num_frames"] = 81  # its shortest
    if kind == "wan21-text-to-video":
        asked |= {"width": 832, "height": 480, "steps": 2}
        model = replace(model, family=replace(model.family, own_sizes=True))
    if kind == "small-text-to-image":
        asked |= {"image_size": {"width": 64, "height": 64}, "image_format": "png"}
        out = out.with_suffix(".png")
    return run(parse(kind, asked), model, out=out, memory=MEMORY, progress=Silent())


# kind -> (the family it runs on here, experts that work, solver)
RUNS = {
    ("image-to-video", "wan2.2-i2v-a14b"): (["high", "low"], "unipc"),
    ("image-to-video-121", "wan2.2-i2v-a14b"): (["high", "low"], "unipc"),
    ("image-to-video-lora", "wan2.2-i2v-a14b"): (["high", "low"], "unipc"),
    ("image-to-video", "toy-image"): (["high", "low"], "unipc"),
    ("image-to-video", "wan2.1-i2v-14b"): (["high"], "unipc"),
    ("image-to-video", "wan2.1-flf2v-14b"): (["high"], "unipc"),
    ("image-to-video", "wan2.2-ti2v-5b"): (["high"], "unipc"),
    ("small-text-to-video", "wan2.2-ti2v-5b"): (["high"], "unipc"),
    ("small-image-to-video", "wan2.2-ti2v-5b"): (["high"], "unipc"),
    ("small-distill", "wan2.2-ti2v-5b"): (["high"], "unipc"),
    ("small-fast-video", "wan2.2-ti2v-5b"): (["high"], "dmd"),
    ("text-to-video", "wan2.1-t2v-14b"): (["high"], "unipc"),
    ("text-to-video", "wan2.1-t2v-1.3b"): (["high"], "unipc"),
    ("legacy-text-to-video", "wan2.2-t2v-a14b"): (["high", "low"], "unipc"),
    ("legacy-text-to-video-lora", "wan2.2-t2v-a14b"): (["high", "low"], "unipc"),
    ("small-text-to-image", "wan2.2-ti2v-5b"): (["high"], "unipc"),
    ("wan21-text-to-video", "wan2.1-t2v-1.3b"): (["high"], "unipc"),
    ("text-to-video-turbo", "wan2.2-t2v-a14b"): (["high", "low"], "euler"),
    ("image-to-video-turbo", "wan2.2-i2v-a14b"): (["high", "low"], "euler"),
}


@pytest.mark.parametrize(("kind", "family"), RUNS)
def test_a_kind_runs_from_the_request_to_the_file(
    kind: str, family: str, model: Maker, pictures: dict[str, str], tmp_path: Path
) -> None:
    given = dict(pictures)
    if family in ("wan2.1-i2v-14b", "wan2.2-ti2v-5b"):
        del given["end_image_url"]
    result = make(kind, model(family), tmp_path / "clip.mp4", **given)
    experts, solver = RUNS[kind, family]
    plan = result.receipt["plan"]
    assert (list(dict.fromkeys(plan["experts"])), plan["solver"]) == (experts, solver)
    if result.path.suffix == ".png":
        assert Image.open(result.path).size == (plan["width"], plan["height"])
    else:
        facts = probe(result.path)
        assert (facts.width, facts.height) == (plan["width"], plan["height"])
        assert facts.frames == plan["frames_out"] >= 17
    used = set(given) & set(class_of(kind).model_fields)
    assert set(result.receipt["inputs"]) == used
