"""Every kind of file keeps what was put in: pictures, times, sound and tags."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from wan_duet.pipelines.errors import MediaError
from wan_duet.pipelines.video.codecs import QUALITIES, WRITE_MODES
from wan_duet.pipelines.video.containers import CONTAINERS, container_of, storable
from wan_duet.pipelines.video.probe import probe, verify
from wan_duet.pipelines.video.tags import PROMPT, RECEIPT, WORKFLOW
from wan_duet.pipelines.video.webp_tags import read_webp_tags, write_webp_tags

from .clips import HEIGHT, WIDTH, moving, soft, tone, write

VIDEOS = ("mp4", "webm", "mkv")
TAGS = {PROMPT: '{"3": {"class_type": "A"}}', WORKFLOW: "ä 鴨 \\;=#\n'\"", RECEIPT: "x" * 70_000}


@pytest.mark.parametrize("fps", ["4", "24000/1001", "60", "300"])
@pytest.mark.parametrize("count", [1, 33])
@pytest.mark.parametrize("suffix", VIDEOS)
def test_count_rate_and_duration_are_exact(tmp_path: Path, suffix: str, count: int, fps: str) -> None:
    told = write(tmp_path / f"a.{suffix}", count, fps=Fraction(fps))
    found = probe(told.path)
    assert (found.frames, found.fps) == (count, Fraction(fps))
    # Matroska has the start and the length of a frame in whole milliseconds.
    assert found.duration_s == pytest.approx(told.duration_s, abs=0 if suffix == "mp4" else 1.5e-3)
    assert (found.codec, found.pix_fmt) == (told.codec, told.pix_fmt)


@pytest.mark.parametrize("fps", ["54870000/1829159", "50000000/333667", "2997002997/100000000"])
@pytest.mark.parametrize("suffix", VIDEOS)
def test_a_rate_that_no_file_can_hold_becomes_the_nearest_that_can(
    tmp_path: Path, suffix: str, fps: str
) -> None:
    """Phones film at no steady rate, and its mean is such a number."""
    told = write(tmp_path / f"a.{suffix}", 5, fps=Fraction(fps))
    assert float(told.fps / Fraction(fps)) == pytest.approx(1, abs=1e-9)
    verify(probe(told.path), frames=5, width=WIDTH, height=HEIGHT, fps=told.fps)


@given(st.fractions(min_value=Fraction(1, 100), max_value=100_000))
def test_a_storable_rate_is_near_and_stays_as_it_is(fps: Fraction) -> None:
    rate = storable(fps)
    assert max(rate.numerator, rate.denominator) * 100 < 2**31
    assert abs(float(rate / fps) - 1) < 1e-6
    assert storable(rate) == rate


@pytest.mark.parametrize("suffix", VIDEOS)
@pytest.mark.parametrize("sound", [False, True])
def test_tags_come_back_from_every_video_with_and_without_sound(
    tmp_path: Path, suffix: str, sound: bool
) -> None:
    path = tmp_path / f"a.{suffix}"
    write(path, tags=TAGS, audio=tone(1) if sound else None)
    found = probe(path).tags
    assert {name: found[name] for name in TAGS} == TAGS


def test_a_lossless_master_keeps_every_bit_of_any_size(tmp_path: Path) -> None:
    write(tmp_path / "a.mkv", width=111, height=63, frames=moving(5, 111, 63))
    with av.open(str(tmp_path / "a.mkv")) as container:
        back = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert all(np.array_equal(a, b) for a, b in zip(back, moving(5, 111, 63), strict=True))


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("write_mode", WRITE_MODES)
@pytest.mark.parametrize("suffix", ["webm", "webp"])
def test_every_quality_and_write_mode_plays(
    tmp_path: Path, suffix: str, quality: str, write_mode: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    write(path, quality=quality, write_mode=write_mode)
    assert probe(path).frames == 5


@pytest.mark.parametrize("suffix", ["webm", "webp"])
def test_a_better_quality_is_a_larger_file(tmp_path: Path, suffix: str) -> None:
    sizes = []
    for quality in QUALITIES:
        write(tmp_path / f"{quality}.{suffix}", 9, soft(9), quality=quality)
        sizes.append((tmp_path / f"{quality}.{suffix}").stat().st_size)
    assert sizes == sorted(set(sizes))


def test_a_moving_thumbnail_plays_in_time_and_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    write(path, 33)
    found = probe(path)
    assert found.frames == 33
    assert found.duration_s == pytest.approx(33 / 16, abs=2e-3)  # the format counts milliseconds
    with Image.open(path) as image:
        assert image.info["loop"] == 0


@pytest.mark.parametrize("count", [1, 5])
def test_a_thumbnail_carries_the_tags_where_comfyui_looks(tmp_path: Path, count: int) -> None:
    path = tmp_path / "a.webp"
    write(path, count, tags=TAGS)
    with Image.open(path) as image:
        assert image.getexif()[0x0110] == f"{PROMPT}:{TAGS[PROMPT]}"
    assert probe(path).tags == TAGS
    assert probe(path).frames == count


@given(
    st.dictionaries(st.text("abc_", min_size=1), st.text(st.characters(exclude_characters="\0")), max_size=5)
)
def test_any_text_in_a_thumbnail_comes_back(tmp_path_factory, tags: dict[str, str]) -> None:
    tags = {name: text.encode("utf-8", "ignore").decode() for name, text in tags.items()}
    path = tmp_path_factory.mktemp("webp") / "a.webp"
    picture = io.BytesIO()
    Image.new("RGB", (7, 5), "red").save(picture, "webp")
    path.write_bytes(picture.getvalue())
    write_webp_tags(path, tags, 7, 5)
    with Image.open(path) as image:
        assert image.size == (7, 5)
        assert read_webp_tags(image.getexif()) == tags


@pytest.mark.parametrize("name", ["a.avi", "a", "a.mp4.txt"])
def test_a_suffix_nobody_writes_is_named_with_those_that_work(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        MediaError, match=r"cannot write .*\.mp4, \.webm, \.mkv, \.mov, \.webp, \.gif, \.png, \.exr work"
    ):
        write(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_capitals_in_a_suffix_do_not_matter() -> None:
    assert container_of(Path("A.MP4")) is CONTAINERS["mp4"]


@pytest.mark.parametrize("suffix", ["mp4", "webm"])
def test_odd_sides_are_refused_where_colour_is_halved(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(MediaError, match=r"111x64 .*or \.mkv"):
        write(tmp_path / f"a.{suffix}", width=111)
