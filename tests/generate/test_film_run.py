"""A video of several shots has the shots that single runs make, and goes on where it was stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from smaller import smaller
from torch import Tensor

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.generate import film_run, sampled_latents
from wan_duet.pipelines.generate.conditions import ImageConditions
from wan_duet.pipelines.generate.frame_stages import encode
from wan_duet.pipelines.generate.local_receipt import read_receipt
from wan_duet.pipelines.generate.local_worker import LocalWorker
from wan_duet.pipelines.generate.prepared_run import Run
from wan_duet.pipelines.generate.result import Result
from wan_duet.pipelines.generate.shot_decoding import decode_shot
from wan_duet.pipelines.generate.start_images import conditions_of
from wan_duet.pipelines.interpolation.found_interpolators import Interpolators
from wan_duet.pipelines.loading.wan_model import load_model
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request import Finding, parse
from wan_duet.pipelines.video.probe import probe
from wan_duet.pipelines.video.read import read_frames
from wan_duet.pipelines.video.read_image import read_image
from wan_duet.pipelines.weights.lora.find import LoraSources

WHOLE: dict[str, Any] = {
    "seed": 7,
    "aspect_ratio": "1:1",
    "num_inference_steps": 2,
    "interpolator_model": "none",
    "video_quality": "maximum",
}
BOARD = "0.3s: a red ball | 5f continue: it moves up | 5f dissolve 2: a blue star"
Make = Callable[..., Result]


class StoppedError(Exception):
    """The user stops."""


class Watched(Silent):
    """Counts how often sampling begins, and stops when it would begin once more than `stop_after`."""

    def __init__(self, stop_after: int = 99) -> None:
        self.sampled, self.stop_after = 0, stop_after

    def begin(self, stage: str, total: int, unit: str) -> None:
        if stage == "sampling":
            if self.sampled == self.stop_after:
                raise StoppedError
            self.sampled += 1


@pytest.fixture(scope="module")
def make() -> Make:
    """Runs a request on the embedded models."""
    models = {
        name: smaller(load_model(toy)) for name, toy in (("model", "toy"), ("image_model", "toy-image"))
    }

    def made(
        kind: str,
        values: dict[str, Any],
        out: Path,
        progress: Watched | None = None,
        told: list[Finding] | None = None,
        **changes: Any,
    ) -> Result:
        worker = LocalWorker(
            **{**models, **changes},
            memory=DeviceMemory("cpu"),
            progress=progress or Watched(),
            tell=(told if told is not None else []).extend,
            lora_sources=LoraSources(),
            interpolators=Interpolators(),
        )
        return worker.run(parse(kind, {**WHOLE, **values}), out)

    return made


@pytest.fixture(scope="module")
def film(make: Make, tmp_path_factory: pytest.TempPathFactory) -> Result:
    return make("shots", {"storyboard": BOARD}, tmp_path_factory.mktemp("film") / "film.mp4")


def hashes(result: Result) -> list[str]:
    return [shot["latents_sha256"] for shot in result.receipt["shots"]]


def test_the_frames_of_all_shots_are_in_one_file(film: Result) -> None:
    facts = probe(film.path)
    assert facts.frames == film.receipt["frames"] == 5 + 4 + 3
    assert film.receipt["joins"] == ["cut", "continue", "dissolve 2"]
    assert (
        list(film.path.parent.iterdir()) == [film.path.with_suffix(".json"), film.path]
        or len(list(film.path.parent.iterdir())) == 2
    )  # nothing is left behind


def test_each_shot_is_what_a_run_of_its_own_makes(make: Make, film: Result, tmp_path: Path) -> None:
    first = make("text-to-video", {"prompt": "a red ball", "num_frames": 5}, tmp_path / "a.mp4")
    third = make("text-to-video", {"prompt": "a blue star", "num_frames": 5, "seed": 9}, tmp_path / "c.mp4")
    ours = hashes(film)
    assert [ours[0], ours[2]] == [first.receipt["latents_sha256"], third.receipt["latents_sha256"]]
    shown = list(read_frames(film.path))[:5]
    assert all((mine == its).all() for mine, its in zip(shown, read_frames(first.path), strict=True))


def test_a_stopped_video_goes_on_with_the_first_shot_that_is_missing(
    make: Make, film: Result, tmp_path: Path
) -> None:
    out, again = tmp_path / "film.mp4", Watched()
    with pytest.raises(StoppedError):
        make("shots", {"storyboard": BOARD}, out, Watched(stop_after=2))
    assert not out.exists()
    result = make("shots", {"storyboard": BOARD}, out, again)
    assert again.sampled == 1
    assert result.receipt["frames_sha256"] == film.receipt["frames_sha256"]
    assert not list(tmp_path.glob(".*"))


def test_a_stopped_video_without_a_seed_keeps_the_one_that_was_drawn(make: Make, tmp_path: Path) -> None:
    out, again = tmp_path / "film.mp4", Watched()
    with pytest.raises(StoppedError):
        make("shots", {"storyboard": BOARD, "seed": None}, out, Watched(stop_after=1))
    result = make("shots", {"storyboard": BOARD, "seed": None}, out, again)
    assert again.sampled == 2
    assert result.receipt["request"]["seed"] == result.seed


def test_a_continued_shot_is_decoded_after_the_one_before(make: Make, tmp_path: Path) -> None:
    endings: list[Tensor | None] = []

    def spied(run: Run, latents: Tensor, before: Tensor | None, given: int) -> Iterator[Tensor]:
        endings.append(before)
        return decode_shot(run, latents, before, given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(film_run, "decode_shot", spied)
        make("shots", {"storyboard": BOARD}, tmp_path / "film.mp4")
    assert [None if ending is None else tuple(ending.shape) for ending in endings] == [
        None,
        (1, 16, 2, 4, 4),
        None,
    ]


@pytest.mark.parametrize("frames", [5, 9])
def test_an_overlap_gives_whole_latent_frames_of_the_shot_before(
    make: Make, tmp_path: Path, frames: int
) -> None:
    seen: list[tuple[Run, ImageConditions, Tensor]] = []

    def spied(run: Run) -> ImageConditions:
        # The image is removed when the video is there.
        conditions = conditions_of(run)
        if conditions.mask is not None:
            seen.append((run, conditions, read_image(run.inputs.files["image_url"].content)))
        return conditions

    board = f"13f: a red ball | 17f overlap {frames}: it moves up"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampled_latents, "conditions_of", spied)
        result = make("shots", {"storyboard": board}, tmp_path / "film.mp4")
    assert result.receipt["frames"] == 13 + 17 - frames
    run, conditions, first = seen[-1]
    assert conditions.mask is not None
    assert conditions.latents is not None
    marked = conditions.mask[0, :, :, 0, 0].T.flatten().tolist()
    assert marked == [1.0] * (frames + 3) + [0.0] * (17 - frames)
    given = [first, *(torch.from_numpy(frame.copy()).float() / 255 for frame in run.lead)]
    shown = list(read_frames(result.path))[13 - frames : 13]
    assert all(
        np.abs(one.numpy() * 255 - its).mean() < 4 for one, its in zip(given, shown, strict=True)
    )  # the file is not lossless
    shape = (16, (frames + 3) // 4, 8, 8)
    signed = (one.movedim(-1, 0) * 2 - 1 for one in given)
    alone = encode(run.model, signed, shape, DeviceMemory("cpu"), Silent())
    assert torch.equal(conditions.latents[:, :, : shape[1]], alone)


def test_findings_are_said_once_and_name_the_shot(make: Make, tmp_path: Path) -> None:
    told: list[Finding] = []
    board = "0.2s: a red ball | 0.3s cut: a star"
    with pytest.raises(StoppedError):
        make("shots", {"storyboard": board}, tmp_path / "x.mp4", Watched(stop_after=0), told)
    fields = [finding.field for finding in told]
    assert "shots[0].seconds" in fields
    assert fields.count("acceleration") == 1
    assert "local.width" not in fields


def test_the_receipt_has_the_findings_of_the_whole_video(film: Result) -> None:
    said = {finding["field"]: finding["reason"] for finding in film.receipt["findings"]}
    assert said["shots[0].seconds"] == "5 frames at 16 a second: the model makes 4 n + 1 frames"
    assert "acceleration" in said


def test_a_model_that_only_draws_from_text_is_refused_before_anything_runs(
    make: Make, tmp_path: Path
) -> None:
    progress = Watched()
    with pytest.raises(RequestError, match=r"image-to-video"):
        make("shots", {"storyboard": BOARD}, tmp_path / "x.mp4", progress, image_model=None)
    assert progress.sampled == 0
    assert not list(tmp_path.iterdir())


def test_a_receipt_of_shots_is_no_receipt_of_one_run(film: Result) -> None:
    with pytest.raises(RequestError, match="a video of several shots; give the receipt of a single run"):
        read_receipt(film.path.with_suffix(".json"))


def test_the_receipt_names_no_folder(make: Make, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (64, 64), "red").save(tmp_path / "start.png")
    shots = [{"prompt": "it moves", "image_url": str(tmp_path / "start.png"), "num_frames": 5}]
    result = make("shots", {"shots": shots}, tmp_path / "film.mp4")
    assert str(tmp_path) not in json.dumps(dict(result.receipt))
    assert result.receipt["request"]["shots"][0]["image_url"] == "start.png"
