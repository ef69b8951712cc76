"""Every kind of request that begins with a picture or needs another model than A14B text to video, from the
request to the file, on tiny random models.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from plans import plan_of
from safetensors.torch import save_file
from tiny_models import Maker, make_model, make_toy_image

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.errors import ModelError, RequestError
from wan_duet.pipelines.generate.local_receipt import read_receipt
from wan_duet.pipelines.generate.local_run import run
from wan_duet.pipelines.generate.repeated_run import repeat
from wan_duet.pipelines.generate.result import Result
from wan_duet.pipelines.generate.stages import sample
from wan_duet.pipelines.generate.start_images import encode_images
from wan_duet.pipelines.loading.wan_model import WanModel, load_model
from wan_duet.pipelines.plan.sigmas import unipc_grid
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request import class_of, parse
from wan_duet.pipelines.sampling.engine import Condition, Prompts
from wan_duet.pipelines.sampling.noise import StartLatents, initial_noise
from wan_duet.pipelines.sampling.schedule import Sampling, Schedule
from wan_duet.pipelines.video.encode_video import encode_video
from wan_duet.pipelines.video.output import sidecar
from wan_duet.pipelines.video.probe import probe
from wan_duet.pipelines.video.read_image import read_image

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
    clip = np.random.default_rng(0).integers(0, 256, (17, 64, 64, 3), np.uint8)
    encode_video(
        iter(clip), folder / "clip.mp4", quality="high", width=64, height=64, fps=Fraction(16), frame_count=17
    )
    return {**files, "video_url": str(folder / "clip.mp4")}


def make(kind: str, model: WanModel, out: Path, **values: Any) -> Result:
    fields = class_of(kind).model_fields
    asked = {name: value for name, value in {**SHORT, **PLAIN, **values}.items() if name in fields}
    if kind.startswith("legacy"):
        asked["num_frames"] = 81  # its shortest
    if kind == "wan21-text-to-video":
        asked |= {"width": 832, "height": 480, "steps": 2}
        model = replace(model, family=replace(model.family, own_sizes=True))
    if kind.endswith(("-to-image", "-to-image-lora")):
        asked |= {"image_size": {"width": 64, "height": 64}}
        out = out.with_suffix(".png")
    if "image_format" in fields:
        asked["image_format"] = "png"
    return run(parse(kind, asked), model, out=out, memory=MEMORY, progress=Silent())


# kind -> (the family it runs on here, experts that work, solver)
RUNS = {
    ("image-to-video", "wan2.2-i2v-a14b"): (["high", "low"], "unipc"),
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
    ("text-to-image", "wan2.1-t2v-14b"): (["high"], "unipc"),
    ("text-to-image-lora", "wan2.1-t2v-1.3b"): (["high"], "unipc"),
    ("image-to-image", "wan2.1-t2v-14b"): (["high"], "unipc"),
    ("video-to-video", "wan2.1-t2v-14b"): (["high"], "unipc"),
    ("video-to-video", "wan2.1-t2v-1.3b"): (["high"], "unipc"),
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


def test_one_merged_file_makes_a_video_from_a_picture(
    model: Maker, pictures: dict[str, str], tmp_path: Path
) -> None:
    pair = model("wan2.2-i2v-a14b")
    high = pair.experts["high"].files[0]
    merged = load_model(
        shutil.copy(high, tmp_path / "merged.safetensors"), vae=high.with_name("vae.safetensors"),
        text_encoder=high.with_name("text.safetensors"),
    )  # fmt: skip
    merged = replace(merged, family=replace(merged.family, sizes=pair.family.sizes))
    result = make("image-to-video", merged, tmp_path / "clip.mp4", **pictures)
    assert set(result.receipt["plan"]["experts"]) == {"high"}
    assert result.receipt["plan"]["guidance"] == {"high": 3.5}
    assert any("merge of the two experts" in str(item) for item in result.receipt["findings"])


def test_the_low_expert_alone_draws_an_image_in_every_step(model: Maker, tmp_path: Path) -> None:
    low = model("wan2.2-t2v-a14b").experts["low"].files[0]
    alone = load_model(
        low, vae=low.with_name("vae.safetensors"), text_encoder=low.with_name("text.safetensors")
    )
    result = make("text-to-image", alone, tmp_path / "image.png", guidance_scale=4.0)
    assert set(result.receipt["plan"]["experts"]) == {"high"}  # the name of the only one
    local = {"local": {"high_steps": 0}}
    of_pair = make("text-to-image", model("wan2.2-t2v-a14b"), tmp_path / "pair.png", **local)
    assert set(of_pair.receipt["plan"]["experts"]) == {"low"}
    assert of_pair.receipt["latents_sha256"] == result.receipt["latents_sha256"]


def test_the_low_expert_alone_takes_a_clip_to_where_the_pair_does(
    model: Maker, pictures: dict[str, str], tmp_path: Path
) -> None:
    pair = model("wan2.2-t2v-a14b")
    low = pair.experts["low"].files[0]
    alone = load_model(
        low, vae=low.with_name("vae.safetensors"), text_encoder=low.with_name("text.safetensors")
    )
    alone = replace(alone, family=replace(alone.family, sizes=pair.family.sizes))
    asked = {"video_url": pictures["video_url"], "strength": 0.5, "num_inference_steps": 4}
    made = make("video-to-video", alone, tmp_path / "alone.mp4", guidance_scale=4.0, **asked)
    of_pair = make("video-to-video", pair, tmp_path / "pair.mp4", local={"high_steps": 0}, **asked)
    assert [len(result.receipt["plan"]["experts"]) for result in (made, of_pair)] == [4, 4]
    assert made.receipt["plan"]["start_step"] == of_pair.receipt["plan"]["start_step"] == 2
    assert of_pair.receipt["latents_sha256"] == made.receipt["latents_sha256"]


def test_the_5b_keeps_the_latent_of_the_picture_bit_for_bit(
    model: Maker, pictures: dict[str, str], tmp_path: Path
) -> None:
    small = model("wan2.2-ti2v-5b")
    shape, size = (48, 5, 4, 4), (64, 64)
    given = encode_images(
        small, read_image(Path(pictures["image_url"])), None, size, shape, 17, MEMORY, Silent()
    )
    assert given.latents is not None
    start = given.start(torch.zeros(1, *shape))
    text = Condition(torch.zeros(1, 512, 128))
    finished = sample(
        small,
        Sampling(Schedule.of_grid(unipc_grid(2, 5.0), None), "unipc", {"high": 1.0}),
        StartLatents(start, initial_noise(start.shape, 7), given.frames),
        Prompts(text, None),
        MEMORY,
        Silent(),
    )
    assert torch.equal(finished[:, :, 0], start[:, :, 0])
    assert not torch.equal(finished[:, :, 1:], start[:, :, 1:])


def test_the_5b_keeps_the_latents_of_the_frames_that_a_shot_goes_on_from(
    model: Maker, pictures: dict[str, str]
) -> None:
    small, shape, size = model("wan2.2-ti2v-5b"), (48, 5, 4, 4), (64, 64)
    first = read_image(Path(pictures["image_url"]))
    lead = [first * (1 - number / 8) for number in range(1, 5)]
    given = encode_images(small, first, None, size, shape, 17, MEMORY, Silent(), lead=lead)
    assert given.frames is not None
    assert given.frames.tolist() == [True, True, False, False, False]
    assert given.latents is not None
    assert given.latents[:, :, 1].any()
    assert not given.latents[:, :, 2:].any()


def test_a_picture_to_end_with_stands_on_the_last_frame_that_is_delivered(
    model: Maker, pictures: dict[str, str]
) -> None:
    """18 frames are 21 generated ones: the last three are there for the VAE alone."""
    first, last = (read_image(Path(pictures[field])) for field in ("image_url", "end_image_url"))
    made = encode_images(model("toy-image"), first, last, (64, 64), (16, 6, 8, 8), 18, MEMORY, Silent())
    assert made.mask is not None
    by_pixel_frame = made.mask[0, :, :, 0, 0].T.flatten()  # the first one fills four places
    assert by_pixel_frame.tolist() == [1] * 4 + [0] * 16 + [1] * 4


def test_pictures_are_cropped_in_the_centre_and_never_stretched(model: Maker, tmp_path: Path) -> None:
    """A white square on black stays square, in the middle, whatever the shape of the video."""
    wide = Image.new("RGB", (400, 100))
    wide.paste((255, 255, 255), (175, 25, 225, 75))
    wide.save(tmp_path / "wide.png")
    square = Image.new("RGB", (100, 100))
    square.paste((255, 255, 255), (25, 25, 75, 75))
    square.save(tmp_path / "square.png")
    toy = model("toy-image")
    both = [
        encode_images(
            toy, read_image(tmp_path / f"{name}.png"), None, (64, 64), (16, 1, 8, 8), 1, MEMORY, Silent()
        ).latents
        for name in ("wide", "square")
    ]
    assert both[0] is not None
    assert both[1] is not None
    assert float((both[0] - both[1]).abs().max()) < 0.05


def test_the_receipt_repeats_a_run_with_the_same_picture_and_refuses_another(
    model: Maker, pictures: dict[str, str], tmp_path: Path
) -> None:
    toy = model("toy-image")
    result = make("image-to-video", toy, tmp_path / "a.mp4", image_url=pictures["image_url"])
    recorded = read_receipt(sidecar(result.path))
    media = {"image_url": Path(pictures["image_url"])}
    arguments = {"memory": MEMORY, "progress": Silent()}
    again = repeat(recorded, toy, out=tmp_path / "b.mp4", media=media, **arguments)
    assert again.receipt["latents_sha256"] == result.receipt["latents_sha256"]
    other = {"image_url": Path(pictures["end_image_url"])}
    with pytest.raises(ModelError, match="image_url: not the file of the receipt"):
        repeat(recorded, toy, out=tmp_path / "c.mp4", media=other, **arguments)


@pytest.mark.parametrize(
    ("kind", "family", "given", "message"),
    [
        ("image-to-video", "wan2.2-ti2v-5b", ("image_url", "end_image_url"), "does not support an end image"),
        ("image-to-video", "wan2.1-i2v-14b", ("image_url", "end_image_url"), "does not support an end image"),
        ("image-to-video", "wan2.1-flf2v-14b", ("image_url",), "give the last one"),
        ("text-to-video", "toy-image", (), "load wan2.2-t2v-a14b or"),
        ("small-text-to-video", "wan2.2-t2v-a14b", (), "load wan2.2-ti2v-5b"),
    ],
)
def test_what_a_model_cannot_do_is_refused_with_what_can(
    model: Maker,
    pictures: dict[str, str],
    tmp_path: Path,
    kind: str,
    family: str,
    given: tuple[str, ...],
    message: str,
) -> None:
    with pytest.raises(RequestError, match=message):
        make(kind, model(family), tmp_path / "a.mp4", **{field: pictures[field] for field in given})
    assert list(tmp_path.iterdir()) == []


def test_the_embedded_model_names_its_sister(tmp_path: Path, pictures: dict[str, str]) -> None:
    with pytest.raises(RequestError, match=r"cannot do image-to-video.* or toy-image"):
        make("image-to-video", load_model("toy"), tmp_path / "a.mp4", image_url=pictures["image_url"])
    with pytest.raises(RequestError, match=r"cannot do text-to-video.* or toy$"):
        make("text-to-video", load_model(make_toy_image(tmp_path)), tmp_path / "a.mp4")


def test_the_default_length_and_size_of_a_request_are_those_of_the_embedded_model(model: Maker) -> None:
    request = parse("image-to-video", {"prompt": "red ball", "image_url": "a.png"})
    plan = plan_of(request, model("toy-image").family, 1, (300, 200), boundary=0.9)
    assert (plan.width, plan.height, plan.frames_delivered) == (112, 64, 17)
    assert plan.boundary == 0.9


def test_turbo_says_which_loras_are_missing_and_uses_them_where_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = make_model("wan2.2-t2v-a14b", tmp_path / "plain")
    with pytest.raises(RequestError) as refused:
        make("text-to-video-turbo", plain, tmp_path / "a.mp4")
    names = [f"wan2.2_t2v_lightx2v_4steps_lora_v1.1_{noise}_noise.safetensors" for noise in ("high", "low")]
    assert all(name in str(refused.value) for name in names)
    assert "models/loras" in str(refused.value)
    down, up = torch.ones(1, 256), torch.ones(256, 1)
    for name in names:
        layer = "diffusion_model.blocks.0.self_attn.q.lora_{}.weight"
        save_file({layer.format("A"): down * 0.01, layer.format("B"): up * 0.01}, tmp_path / name)
    monkeypatch.chdir(tmp_path)  # where a command line is run
    made = make("text-to-video-turbo", plain, tmp_path / "a.mp4")
    used = [(lora["file"], lora["expert"]) for lora in made.receipt["model"]["loras"]]
    assert used == list(zip(names, ("high", "low"), strict=True))
    assert made.receipt["plan"]["forwards"] == 4


def test_fastvideo_says_whose_weights_it_needs(tmp_path: Path) -> None:
    plain = make_model("wan2.2-ti2v-5b", tmp_path)
    with pytest.raises(RequestError, match=r"not the weights of FastVideo.*models/diffusers"):
        make("small-fast-video", plain, tmp_path / "a.mp4")


def test_wan_21_says_which_image_encoder_is_missing(
    model: Maker, pictures: dict[str, str], tmp_path: Path
) -> None:
    without = replace(model("wan2.1-i2v-14b"), image_encoder=None)
    with pytest.raises(RequestError, match=r"clip_vision_h\.safetensors into models/clip_vision"):
        make("image-to-video", without, tmp_path / "a.mp4", image_url=pictures["image_url"])
