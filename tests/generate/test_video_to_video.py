"""Video-to-video on the embedded model: what strength means, which frames are used, how they are fitted."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tools.train_embedded.clips import PALETTE
from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.embedded.detector import Seen, look_at
from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.generate.local_receipt import read_receipt
from wan_duet.pipelines.generate.local_run import run
from wan_duet.pipelines.generate.repeated_run import repeat
from wan_duet.pipelines.generate.result import Result
from wan_duet.pipelines.loading.wan_model import WanModel, load_model
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request import parse
from wan_duet.pipelines.video.encode_video import encode_video
from wan_duet.pipelines.video.output import sidecar
from wan_duet.pipelines.video.probe import probe
from wan_duet.pipelines.video.read import read_frames

PROMPT = "a green ball moving to the left on a white background"
RED, WHITE = PALETTE["red"], PALETTE["white"]


@pytest.fixture(scope="module")
def toy() -> WanModel:
    return load_model("toy")


def drawn(frames: int, width: int = 64, height: int = 64) -> list[np.ndarray]:
    """A red disc that crosses a white picture to the right."""
    rows, columns = np.mgrid[:height, :width]
    clip = []
    for index in range(frames):
        column = width * (0.3 + 0.4 * index / max(frames - 1, 1))
        disc = np.hypot(rows - height / 2, columns - column) < min(width, height) * 0.18
        clip.append(np.where(disc[..., None], np.array(RED), WHITE).astype(np.uint8))
    return clip


def clip(file: Path, frames: int = 17, fps: int = 16, width: int = 64, height: int = 64) -> Path:
    options = {"width": width, "height": height, "fps": Fraction(fps), "frame_count": frames}
    encode_video(iter(drawn(frames, width, height)), file, quality="maximum", **options)
    return file


def make(model: WanModel, folder: Path, source: Path | None = None, **values: Any) -> Result:
    source = source or clip(folder / "in.mp4")
    plain = {"prompt": PROMPT, "seed": 2, "interpolator_model": "none", "num_inference_steps": 6}
    request = parse("video-to-video", {**plain, "video_url": str(source), **values})
    return run(
        request, model, out=folder / "out.mp4", memory=DeviceMemory("cpu"), progress=Silent(),
        return_images=True,
    )  # fmt: skip


def pixels(result: Result) -> np.ndarray:
    assert result.images is not None
    return (result.images * 255).round().byte().numpy()


def seen(result: Result) -> Seen:
    return look_at(pixels(result))


def middle(frame: np.ndarray) -> float:
    """The column around which the disc is."""
    ink = np.clip(WHITE[1] - frame[..., 1].astype(float) - 60, 0, None).sum(0)
    return float(ink @ np.arange(len(ink)) / ink.sum())


def reason(result: Result, field: str) -> str:
    return next(item["reason"] for item in result.receipt["adjustments"] if item["field"] == field)


def test_strength_0_gives_the_input_back(toy: WanModel, tmp_path: Path) -> None:
    made = make(toy, tmp_path, strength=0.0)
    assert pixels(made).shape == (17, 64, 64, 3)
    error = np.square((pixels(made) - np.stack(drawn(17)).astype(float)) / 255).mean()
    assert error < 0.008  # 21 dB: once through the VAE, and no step
    assert made.receipt["plan"]["forwards"] == 0


def test_strength_decides_between_the_input_and_the_prompt(toy: WanModel, tmp_path: Path) -> None:
    kept = seen(make(toy, tmp_path, strength=0.3, num_inference_steps=12))
    new = seen(make(toy, tmp_path, strength=0.95, num_inference_steps=12))
    assert (kept.colour, kept.motion) == ("red", "right")
    assert (new.colour, new.motion) == ("green", "left")


def test_strength_1_is_text_to_video(toy: WanModel, tmp_path: Path) -> None:
    made = make(toy, tmp_path, strength=1.0, num_inference_steps=2)
    values = {"prompt": PROMPT, "seed": 2, "interpolator_model": "none", "num_inference_steps": 2}
    alone = run(
        parse("text-to-video", {**values, "aspect_ratio": "1:1"}),
        toy, out=tmp_path / "alone.mp4", memory=DeviceMemory("cpu"), progress=Silent(),
    )  # fmt: skip
    assert made.receipt["latents_sha256"] == alone.receipt["latents_sha256"]


def test_only_the_experts_of_the_steps_that_run_are_loaded(toy: WanModel, tmp_path: Path) -> None:
    made = make(toy, tmp_path, strength=0.5)
    names = [stage["name"] for stage in made.receipt["memory"]["stages"]]
    assert names == ["text encoder", "low-noise expert", "VAE"]
    both = make(toy, tmp_path, strength=0.9)
    assert "high-noise expert" in [stage["name"] for stage in both.receipt["memory"]["stages"]]


def test_a_long_input_is_trimmed_and_the_receipt_says_so(toy: WanModel, tmp_path: Path) -> None:
    source = clip(tmp_path / "in.mp4", 30)
    made = make(toy, tmp_path, source, strength=0.0)
    assert probe(made.path).frames == 17
    assert "the rest of the video is not used" in reason(made, "num_frames")
    assert middle(pixels(made)[-1]) == pytest.approx(64 * (0.3 + 0.4 * 16 / 29), abs=3)


def test_a_short_input_shortens_the_default_length(toy: WanModel, tmp_path: Path) -> None:
    made = make(toy, tmp_path, clip(tmp_path / "in.mp4", 7), strength=0.2)
    assert probe(made.path).frames == 7  # 9 are coded, the last one of the input twice more
    assert made.receipt["plan"]["frames_generated"] == 9
    assert reason(made, "num_frames") == "the video has 7 frames, and all are used"


def test_a_short_input_is_refused_for_a_length_that_was_asked_for(toy: WanModel, tmp_path: Path) -> None:
    source = clip(tmp_path / "in.mp4", 7)
    with pytest.raises(RequestError, match="num_frames: asked for 25; the video has 7 frames"):
        make(toy, tmp_path, source, num_frames=25)
    with pytest.raises(RequestError, match="the video has 4 frames at 8 per second"):
        make(toy, tmp_path, source, num_frames=25, resample_fps=True, frames_per_second=8)
    assert [file.name for file in tmp_path.iterdir()] == ["in.mp4"]


def test_a_resampled_input_plays_as_fast_as_before(toy: WanModel, tmp_path: Path) -> None:
    source = clip(tmp_path / "in.mp4", 26, fps=24)
    made = make(toy, tmp_path, source, strength=0.0, resample_fps=True)
    assert (probe(made.path).frames, probe(made.path).fps) == (17, 16)
    moved = middle(pixels(made)[-1]) - middle(pixels(made)[0])
    assert moved == pytest.approx(64 * 0.4 * 24 / 25, abs=3)  # as far as the source gets in that time


@pytest.mark.parametrize(("width", "height", "size"), [(192, 108, (112, 64)), (108, 192, (64, 112))])
def test_the_result_has_the_shape_of_the_input(
    toy: WanModel, tmp_path: Path, width: int, height: int, size: tuple[int, int]
) -> None:
    source = clip(tmp_path / "in.mp4", 5, width=width, height=height)
    made = make(toy, tmp_path, source, strength=0.0)
    facts = probe(made.path)
    assert (facts.width, facts.height) == size


def test_the_receipt_names_the_input_by_content_and_repeats(toy: WanModel, tmp_path: Path) -> None:
    made = make(toy, tmp_path, strength=0.5)
    assert str(tmp_path) not in json.dumps(made.receipt)
    recorded = read_receipt(sidecar(made.path))
    again = repeat(
        recorded, toy, out=tmp_path / "again.mp4", memory=DeviceMemory("cpu"), progress=Silent(),
        media={"video_url": tmp_path / "in.mp4"},
    )  # fmt: skip
    assert again.receipt["latents_sha256"] == made.receipt["latents_sha256"]
    assert len(list(read_frames(again.path))) == 17


def test_a_stop_while_the_input_is_read_leaves_nothing(toy: WanModel, tmp_path: Path) -> None:
    class StopAtInput(Silent):
        reading = False

        def begin(self, stage: str, total: int, unit: str) -> None:
            self.reading = stage == "input"

        def check(self) -> None:
            if self.reading:
                raise KeyboardInterrupt

    source = clip(tmp_path / "in.mp4")
    request = parse("video-to-video", {"prompt": PROMPT, "video_url": str(source)})
    with pytest.raises(KeyboardInterrupt):
        run(request, toy, out=tmp_path / "a.mp4", memory=DeviceMemory("cpu"), progress=StopAtInput())
    assert [file.name for file in tmp_path.iterdir()] == ["in.mp4"]


def test_acceleration_as_requested_skips_and_counts_and_repeats(toy: WanModel, tmp_path: Path) -> None:
    def accelerated(**values: Any) -> Result:
        request = parse(
            "text-to-video",
            {"prompt": PROMPT, "seed": 2, "interpolator_model": "none", "aspect_ratio": "1:1", **values},
        )
        return run(
            request, toy, out=tmp_path / "a.mp4", memory=DeviceMemory("cpu"), progress=Silent(),
            acceleration="as requested", return_images=True,
        )  # fmt: skip

    made = accelerated()
    counted = made.receipt["acceleration"]
    plan = made.receipt["plan"]
    assert sum(counted["forwards"].values()) == plan["forwards"] == 54
    assert 0 < sum(counted["skipped"].values()) < 54
    assert (seen(made).colour, seen(made).motion) == ("green", "left")
    again = repeat(
        read_receipt(sidecar(made.path)), toy, out=tmp_path / "b.mp4", memory=DeviceMemory("cpu"),
        progress=Silent(),
    )  # fmt: skip
    assert again.receipt["acceleration"] == counted
    exact = accelerated(acceleration="none", num_inference_steps=2)
    assert "acceleration" not in exact.receipt


@pytest.mark.parametrize("name", ["first-block", "magcache", "easycache"])
def test_a_chosen_step_cache_acts_without_a_word_of_the_runner_and_repeats(
    toy: WanModel, tmp_path: Path, name: str
) -> None:
    fields = {"prompt": PROMPT, "seed": 2, "interpolator_model": "none", "aspect_ratio": "1:1"}
    local = {"step_cache": name, "step_cache_threshold": 0.15}
    request = parse("text-to-video", {**fields, "num_inference_steps": 12, "local": local})
    made = run(request, toy, out=tmp_path / "a.mp4", memory=DeviceMemory("cpu"), progress=Silent())
    counted = made.receipt["acceleration"]
    assert (counted["cache"], counted["threshold"]) == (name, 0.15)
    assert sum(counted["forwards"].values()) == made.receipt["plan"]["forwards"] == 24
    assert 0 < sum(counted["skipped"].values()) < 24
    assert made.receipt["lossy_by_choice"] == ["step_cache"]
    again = repeat(
        read_receipt(sidecar(made.path)), toy, out=tmp_path / "b.mp4", memory=DeviceMemory("cpu"),
        progress=Silent(),
    )  # fmt: skip
    assert again.receipt["latents_sha256"] == made.receipt["latents_sha256"]
    assert again.receipt["acceleration"] == counted
