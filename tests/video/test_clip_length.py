"""The length of an input video is read from its packets, and decides the price at a provider."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from wan_duet.pipelines.cli import main
from wan_duet.pipelines.errors import MediaError
from wan_duet.pipelines.remote.order import order_for
from wan_duet.pipelines.request import parse
from wan_duet.pipelines.request.media_facts import ClipLength
from wan_duet.pipelines.video.clip_length import clip_length, known_lengths

from ..servers.results import clip

LENGTH = ClipLength(frames=8, seconds=0.5)  # of clip()


@pytest.fixture
def film(tmp_path: Path) -> Path:
    file = tmp_path / "film.mp4"
    file.write_bytes(clip())
    return file


def test_frames_and_seconds_are_those_of_the_file(film: Path) -> None:
    assert clip_length(film) == clip_length(clip()) == LENGTH


def test_what_is_no_video_has_no_length() -> None:
    with pytest.raises(MediaError):
        clip_length(b"no video")


def test_only_videos_on_this_machine_are_measured(film: Path, tmp_path: Path) -> None:
    uri = f"data:video/mp4;base64,{base64.b64encode(clip()).decode()}"
    videos = ["https://a/b.mp4", str(film), uri, str(tmp_path / "none.mp4")]
    asked = parse("wan30-reference-to-video", {"reference_video_urls": videos})
    names = ("reference_video_urls[1]", "reference_video_urls[2]")
    assert known_lengths(asked) == dict.fromkeys(names, LENGTH)


def test_a_connected_video_is_measured_where_it_was_written(film: Path) -> None:
    asked = parse("animate-move", {"video_url": "sha256:aa", "image_url": "https://a/b.png"})
    assert known_lengths(asked, {"video_url": film}) == {"video_url": LENGTH}


def test_an_order_and_a_check_have_the_price_of_the_length(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    values = {"video_url": str(film), "image_url": "https://a/b.png", "resolution": "720p"}
    order, _ = order_for(parse("animate-replace", values), "fal", tmp_path / "out.mp4")
    assert order.price.usd == pytest.approx(0.08 * 8 / 16)
    flags = [text for name, value in values.items() for text in (f"--{name.replace('_', '-')}", value)]
    assert main(["check", "--kind", "animate-replace", "--on", "fal", *flags]) == 0
    assert "price: about $0.04 (8 frames of the input counted at 16 fps" in capsys.readouterr().out
