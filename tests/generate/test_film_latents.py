"""Shots that hand over latents, as the LoRAs of Stable Video Infinity 2.0 Pro are trained for."""

from __future__ import annotations

from collections.abc import Callable
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
from wan_duet.pipelines.generate.local_worker import LocalWorker
from wan_duet.pipelines.generate.prepared_run import Run
from wan_duet.pipelines.generate.result import Result
from wan_duet.pipelines.generate.start_images import conditions_of
from wan_duet.pipelines.interpolation.found_interpolators import Interpolators
from wan_duet.pipelines.loading.wan_model import WanModel, load_model
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request import Finding, parse
from wan_duet.pipelines.vae.latent_space import normalise
from wan_duet.pipelines.video.image import image_bytes, write_image
from wan_duet.pipelines.video.read import read_frames
from wan_duet.pipelines.video.read_image import read_image
from wan_duet.pipelines.weights.lora.find import LoraSources

WHOLE: dict[str, Any] = {
    "seed": 7,
    "aspect_ratio": "1:1",
    "num_inference_steps": 2,
    "interpolator_model": "none",
    "overlap_latents": "on",
}
SHOTS = [
    {"prompt": "a red ball", "num_frames": 13},
    {"prompt": "it moves up", "num_frames": 17, "join": "overlap 9"},
    {"prompt": "it moves down", "num_frames": 9, "join": "overlap 5"},
]
Seen = list[tuple[Run, ImageConditions, Tensor]]


class StoppedError(Exception):
    """The user stops."""


class Stopping(Silent):
    """Stops when sampling begins for the third time."""

    sampled = 0

    def begin(self, stage: str, total: int, unit: str) -> None:
        self.sampled += stage == "sampling"
        if self.sampled == 3:
            raise StoppedError


@pytest.fixture(scope="module")
def models() -> dict[str, WanModel]:
    return {name: smaller(load_model(toy)) for name, toy in (("model", "toy"), ("image_model", "toy-image"))}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture that is wider than the video."""
    file = tmp_path_factory.mktemp("image") / "first.png"
    pixels = np.random.default_rng(0).integers(0, 255, (40, 90, 3), dtype=np.uint8)
    write_image(file, image_bytes(pixels, "png", {}))
    return file


def run_film(
    models: dict[str, WanModel],
    shots: list[dict[str, Any]],
    out: Path,
    *,
    progress: Silent | None = None,
    tell: Callable[[Any], None] = lambda _: None,
    **values: Any,
) -> Result:
    worker = LocalWorker(
        **models,
        memory=DeviceMemory("cpu"),
        progress=progress or Silent(),
        tell=tell,
        lora_sources=LoraSources(),
        interpolators=Interpolators(),
    )
    return worker.run(parse("shots", {**WHOLE, **values, "shots": shots}), out)


def watched(run: Callable[[], Result]) -> tuple[Result, Seen, list[Tensor]]:
    """Return the result, the runs with an image, their conditions and image, and the latents of all shots."""
    seen: Seen = []
    latents: list[Tensor] = []
    sampled = film_run._sampled

    def spied(run: Run) -> ImageConditions:
        conditions = conditions_of(run)
        if conditions.mask is not None:  # the image is removed when the video is there
            seen.append((run, conditions, read_image(run.inputs.files["image_url"].content)))
        return conditions

    def noted(film: Any, run: Run) -> Any:
        made = sampled(film, run)
        latents.append(made.latents)
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampled_latents, "conditions_of", spied)
        patch.setattr(film_run, "_sampled", noted)
        result = run()
    return result, seen, latents


def official(run: Run, anchor: Tensor, motion: Tensor) -> Tensor:
    """Return concat([anchor, motion, zeros]) in the space of the experts. motion: in VAE space."""
    channels, frames, *rest = run.plan.latent_shape
    signed = anchor.movedim(-1, 0) * 2 - 1
    one = encode(run.own_model, iter([signed]), (channels, 1, *rest), DeviceMemory("cpu"), Silent())
    given = normalise(torch.cat([one, motion], dim=2), run.own_model.vae)
    return torch.cat([given, torch.zeros(1, channels, frames - given.shape[2], *rest)], dim=2)


def test_a_shot_is_given_the_first_image_the_last_latents_and_zeros(
    models: dict[str, WanModel], image: Path, tmp_path: Path
) -> None:
    shots = [{**SHOTS[0], "image_url": str(image)}, *SHOTS[1:]]
    result, seen, latents = watched(lambda: run_film(models, shots, tmp_path / "film.mp4"))
    assert result.receipt["frames"] == 13 + 17 - 9 + 9 - 5
    anchors = [anchor for _, _, anchor in seen]
    assert anchors[1].equal(anchors[2])  # of the whole video, in its size
    motions = [latents[0][:, :, :0], latents[0][:, :, -2:], latents[1][:, :, -1:]]
    for (run, conditions, anchor), motion in list(zip(seen, motions, strict=True))[1:]:
        assert conditions.latents is not None
        given = normalise(conditions.latents, run.own_model.vae)
        torch.testing.assert_close(given, official(run, anchor, motion), rtol=0, atol=1e-6)
    for run, conditions, _ in seen:
        assert conditions.mask is not None
        assert conditions.latents is not None
        empty = normalise(conditions.latents, run.own_model.vae)[:, :, 3:]
        torch.testing.assert_close(empty, torch.zeros_like(empty), rtol=0, atol=1e-6)
        assert conditions.mask[0, :, :, 0, 0].T.flatten().tolist() == [1.0] * 4 + [0.0] * (
            4 * run.plan.latent_shape[1] - 4
        )


def test_without_an_image_the_first_frame_of_the_video_is_the_anchor(
    models: dict[str, WanModel], tmp_path: Path
) -> None:
    result, seen, _ = watched(
        lambda: run_film(models, SHOTS[:2], tmp_path / "film.mp4", video_quality="maximum")
    )
    assert result.receipt["joins"] == ["cut", "overlap 9"]
    shown = next(iter(read_frames(result.path)))
    assert np.abs(seen[0][2].numpy() * 255 - shown).mean() < 4  # the file is not lossless


def test_a_stopped_video_goes_on_with_the_same_latents(models: dict[str, WanModel], tmp_path: Path) -> None:
    whole = run_film(models, SHOTS, tmp_path / "whole.mp4")
    with pytest.raises(StoppedError):
        run_film(models, SHOTS, tmp_path / "film.mp4", progress=Stopping())
    again = run_film(models, SHOTS, tmp_path / "film.mp4")
    hashes = [[shot["latents_sha256"] for shot in one.receipt["shots"]] for one in (whole, again)]
    assert hashes[0] == hashes[1]
    assert again.receipt["frames_sha256"] == whole.receipt["frames_sha256"]
    frames = run_film(models, SHOTS, tmp_path / "frames.mp4", overlap_latents="off")
    assert frames.receipt["shots"][1]["latents_sha256"] != hashes[0][1]


def test_a_run_without_loras_is_told_for_which_they_are(models: dict[str, WanModel], tmp_path: Path) -> None:
    told: list[Finding] = []
    run_film(models, SHOTS[:2], tmp_path / "film.mp4", tell=told.extend)
    assert [one.status for one in told if one.field == "overlap_latents"] == ["warning"]


def test_what_cannot_be_handed_over_is_refused_before_anything_runs(
    models: dict[str, WanModel], image: Path, tmp_path: Path
) -> None:
    shots = [{**SHOTS[0], "num_frames": 12}, {**SHOTS[1], "end_image_url": str(image)}]
    with pytest.raises(RequestError) as told:
        run_film(models, shots, tmp_path / "film.mp4", progress=Stopping())
    assert {problem.field for problem in told.value.problems} == {
        "shots[0].num_frames",
        "shots[1].end_image_url",
    }
    assert not list(tmp_path.iterdir())
