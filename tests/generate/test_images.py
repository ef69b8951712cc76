"""Text-to-image and image-to-image on the embedded model: the file, its tags, and what strength means."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.embedded.detector import look_at
from wan_duet.pipelines.errors import MediaError, ModelError, RequestError
from wan_duet.pipelines.generate.local_receipt import read_receipt
from wan_duet.pipelines.generate.local_run import run
from wan_duet.pipelines.generate.repeated_run import repeat
from wan_duet.pipelines.generate.result import Result
from wan_duet.pipelines.loading.wan_model import WanModel, load_model
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request import parse
from wan_duet.pipelines.video.image import image_bytes
from wan_duet.pipelines.video.output import sidecar
from wan_duet.pipelines.video.read_image import read_image

WHITE = "a green square on a white background"
RED, BLUE = (225, 30, 35), (30, 70, 225)


@pytest.fixture(scope="module")
def toy() -> WanModel:
    return load_model("toy")


def make(model: WanModel, out: Path, kind: str = "text-to-image", **values: Any) -> Result:
    request = parse(kind, {"prompt": WHITE, "seed": 1, **values})
    progress = values.pop("progress", Silent())
    return run(request, model, out=out, memory=DeviceMemory("cpu"), progress=progress)


def painted(file: Path, colour: tuple[int, int, int], width: int = 160, height: int = 160) -> Path:
    """A disc of one colour on white."""
    rows, columns = np.mgrid[:height, :width]
    disc = np.hypot(rows - height / 2, columns - width / 2) < min(width, height) * 0.25
    pixels = np.where(disc[..., None], np.array(colour), 255).astype(np.uint8)
    file.write_bytes(image_bytes(pixels, "png", {}))
    return file


def colour_of(file: Path) -> str | None:
    pixels = (read_image(file) * 255).round().byte().numpy()
    return look_at(pixels[None]).colour


@pytest.fixture(scope="module")
def drawn(toy: WanModel, tmp_path_factory: pytest.TempPathFactory) -> Result:
    return make(toy, tmp_path_factory.mktemp("out") / "picture.png")


def test_the_file_is_the_picture_that_is_returned(drawn: Result) -> None:
    with Image.open(drawn.path) as image:
        assert (image.format, image.size, image.mode) == ("PNG", (64, 64), "RGB")
    assert drawn.images is not None
    assert drawn.images.shape == (1, 64, 64, 3)
    assert torch.equal((drawn.images[0] * 255).round(), (read_image(drawn.path) * 255).round())


def test_the_prompt_is_drawn(drawn: Result) -> None:
    assert colour_of(drawn.path) == "green"


def test_the_receipt_is_in_the_file_and_beside_it(drawn: Result) -> None:
    with Image.open(drawn.path) as image:
        inside = json.loads(image.text["wan_duet"])
    beside = json.loads(sidecar(drawn.path).read_text(encoding="utf-8"))
    assert inside["latents_sha256"] == beside["latents_sha256"] == drawn.receipt["latents_sha256"]
    assert inside["plan"]["output"] == "png"
    assert inside["kind"] == "text-to-image"


def test_a_jpeg_carries_them_too_and_keeps_full_colour(toy: WanModel, tmp_path: Path) -> None:
    made = make(toy, tmp_path / "a.jpg", "text-to-image-lora", image_format="jpeg", num_inference_steps=2)
    with Image.open(made.path) as image:
        assert image.format == "JPEG"
        tags = [str(text) for text in image.getexif().values()]
        assert image.layer[0][1:3] == image.layer[1][1:3]  # no chroma subsampling
    (receipt,) = (json.loads(tag.partition(":")[2]) for tag in tags if tag.startswith("wan_duet:"))
    assert receipt["seed"] == 1


def test_the_graph_travels_in_the_picture(toy: WanModel, tmp_path: Path) -> None:
    request = parse("text-to-image", {"prompt": WHITE, "seed": 1, "num_inference_steps": 2})
    out, tags = tmp_path / "a.png", {"workflow": '{"drawn": "in the browser"}'}
    run(request, toy, out=out, memory=DeviceMemory("cpu"), progress=Silent(), tags=tags, embed_receipt=False)
    with Image.open(out) as image:
        assert image.text == tags


@pytest.mark.parametrize(("kind", "name"), [("text-to-image", "a.mp4"), ("text-to-image-lora", "a.png")])
def test_a_name_that_does_not_fit_the_result_is_refused(
    toy: WanModel, tmp_path: Path, kind: str, name: str
) -> None:
    with pytest.raises(RequestError, match=rf"output: {name}.* (\.png|\.jpg or \.jpeg)"):
        make(toy, tmp_path / name, kind)
    assert list(tmp_path.iterdir()) == []


def test_a_place_may_follow_from_the_plan(toy: WanModel, tmp_path: Path) -> None:
    request = parse("text-to-image", {"prompt": WHITE, "seed": 1, "num_inference_steps": 2})
    made = run(
        request,
        toy,
        out=lambda plan: tmp_path / f"{plan.width}x{plan.height}.{plan.output}",
        memory=DeviceMemory("cpu"),
        progress=Silent(),
    )
    assert made.path.name == "64x64.png"
    assert made.path.exists()


def test_a_stop_leaves_nothing(toy: WanModel, tmp_path: Path) -> None:
    class StopAtPicture(Silent):
        at_picture = False

        def begin(self, stage: str, total: int, unit: str) -> None:
            self.at_picture = stage == "image"

        def check(self) -> None:
            if self.at_picture:
                raise KeyboardInterrupt

    request = parse("text-to-image", {"prompt": WHITE, "seed": 1, "num_inference_steps": 2})
    with pytest.raises(KeyboardInterrupt):
        run(request, toy, out=tmp_path / "a.png", memory=DeviceMemory("cpu"), progress=StopAtPicture())
    assert list(tmp_path.iterdir()) == []


def test_a_lora_of_the_request_changes_the_picture(toy: WanModel, tmp_path: Path) -> None:
    loras = [{"path": "toy/outlined", "transformer": "low"}]
    values = {"image_format": "png", "num_inference_steps": 6}
    plain = make(toy, tmp_path / "a.png", "text-to-image-lora", **values)
    made = make(toy, tmp_path / "b.png", "text-to-image-lora", loras=loras, **values)
    assert [lora["expert"] for lora in made.receipt["model"]["loras"]] == ["low"]
    assert made.receipt["latents_sha256"] != plain.receipt["latents_sha256"]


def redrawn(model: WanModel, folder: Path, strength: float, **values: Any) -> Result:
    """A red disc, redrawn as something blue."""
    source = values.pop("image_url", None) or str(painted(folder / "in.png", RED))
    values = {"prompt": "a blue ball on a white background", "image_format": "png", **values}
    return make(model, folder / "out.png", "image-to-image", image_url=source, strength=strength, **values)


def test_strength_0_gives_the_input_back(toy: WanModel, tmp_path: Path) -> None:
    made = redrawn(toy, tmp_path, 0.0)
    assert made.images is not None
    before = read_image(painted(tmp_path / "small.png", RED, 64, 64))
    error = float((made.images[0] - before).square().mean())
    assert error < 0.008  # 21 dB: once through the VAE, and no step
    assert made.receipt["plan"]["start_step"] == len(made.receipt["plan"]["timesteps"])


def test_a_low_strength_keeps_the_colour_and_a_high_one_follows_the_prompt(
    toy: WanModel, tmp_path: Path
) -> None:
    assert colour_of(redrawn(toy, tmp_path, 0.3).path) == "red"
    assert colour_of(redrawn(toy, tmp_path, 0.95).path) == "blue"


def test_strength_1_is_text_to_image(toy: WanModel, tmp_path: Path) -> None:
    made = redrawn(toy, tmp_path, 1.0, prompt=WHITE, num_inference_steps=4, aspect_ratio="1:1")
    alone = make(toy, tmp_path / "alone.png", num_inference_steps=4)
    assert made.receipt["latents_sha256"] == alone.receipt["latents_sha256"]


@pytest.mark.parametrize(("width", "height", "size"), [(320, 180, (112, 64)), (90, 160, (64, 112))])
def test_the_result_has_the_shape_of_the_input(
    toy: WanModel, tmp_path: Path, width: int, height: int, size: tuple[int, int]
) -> None:
    source = painted(tmp_path / "in.png", RED, width, height)
    made = redrawn(toy, tmp_path, 0.2, image_url=str(source), num_inference_steps=5)
    with Image.open(made.path) as image:
        assert image.size == size


def test_the_input_may_be_a_data_uri(toy: WanModel, tmp_path: Path) -> None:
    content = painted(tmp_path / "in.png", RED).read_bytes()
    uri = "data:image/png;base64," + base64.b64encode(content).decode()
    values = {"num_inference_steps": 5}
    from_file, from_text = (redrawn(toy, tmp_path, 0.4, image_url=source, **values) for source in (None, uri))
    assert from_text.receipt["latents_sha256"] == from_file.receipt["latents_sha256"]
    assert len(json.dumps(from_text.receipt["request"])) < 1000


def test_the_receipt_names_the_input_by_content_and_repeats(
    toy: WanModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = redrawn(toy, tmp_path, 0.4, num_inference_steps=5)
    assert str(tmp_path) not in json.dumps(made.receipt)
    assert made.receipt["inputs"]["image_url"]["name"] == "in.png"
    recorded = read_receipt(sidecar(made.path))

    def again(**media: Path) -> Result:
        return repeat(
            recorded, toy, out=tmp_path / "b.png", memory=DeviceMemory("cpu"), progress=Silent(), media=media
        )

    assert again(image_url=tmp_path / "in.png").receipt["latents_sha256"] == recorded.latents_sha256
    monkeypatch.chdir(tmp_path)  # where the name is found
    assert again().receipt["latents_sha256"] == recorded.latents_sha256
    painted(tmp_path / "in.png", BLUE)
    with pytest.raises(ModelError, match="image_url: not the file of the receipt"):
        again()


@pytest.mark.parametrize(
    ("source", "error", "said"),
    [
        ("nowhere.png", RequestError, "image_url: nowhere.png"),
        ("sha256:" + "0" * 64, RequestError, "image_url: the connected input is missing"),
        ("https://example.com/a.png", RequestError, "image_url: a web address; download it"),
        ("ftp://example.com/a.png", RequestError, "image_url: a web address"),
        ("data:image/png;base64,!", RequestError, "image_url: a data URI"),
        ("data:video/mp4;base64,AAAA", RequestError, "image_url: .*is video/mp4"),
        ("data:image/png;base64,AAAA", MediaError, "image_url: .*not a readable image"),
    ],
)
def test_an_input_that_cannot_be_used_is_named_before_anything_is_loaded(
    toy: WanModel, tmp_path: Path, source: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        make(toy, tmp_path / "a.jpg", "image-to-image", image_url=source)
    assert list(tmp_path.iterdir()) == []
