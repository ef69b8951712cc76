from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from wan_duet.pipelines.errors import MediaError
from wan_duet.pipelines.video.codecs import QUALITIES, WRITE_MODES
from wan_duet.pipelines.video.frame_stream import Frame
from wan_duet.pipelines.video.probe import probe, verify
from wan_duet.pipelines.video.tags import PROMPT, RECEIPT, WORKFLOW

from .clips import HEIGHT, WIDTH, moving, write

BARS = (
    (235, 235, 235),
    (235, 235, 16),
    (16, 235, 235),
    (16, 235, 16),
    (235, 16, 16),
    (16, 16, 235),
    (180, 120, 90),
)


def assert_nothing_is_left(folder: Path) -> None:
    assert [p.name for p in folder.iterdir()] == []
    assert not [t for t in threading.enumerate() if t.name.startswith("wan-duet-encoder")]


@pytest.mark.parametrize("fps", ["4", "16", "24000/1001", "32", "80", "300"])
@pytest.mark.parametrize("count", [1, 2, 33])
def test_count_rate_and_duration_are_exact(tmp_path: Path, fps: str, count: int) -> None:
    path = tmp_path / "clip.mp4"
    write(path, count, fps=Fraction(fps))
    verify(probe(path), frames=count, width=WIDTH, height=HEIGHT, fps=Fraction(fps))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.duration * stream.time_base == count / Fraction(fps)
        times = [frame.pts * frame.time_base for frame in container.decode(stream)]
    assert times == [i / Fraction(fps) for i in range(count)]


def test_what_is_reported_is_what_is_in_the_file(tmp_path: Path) -> None:
    told, found = write(tmp_path / "clip.mp4", tags={RECEIPT: "{}"}), probe(tmp_path / "clip.mp4")
    only_read = dict.fromkeys(("tags", "times", "colour", "mastering_display", "content_light"))
    assert {**vars(told), **only_read} == {**vars(found), **only_read}
    assert told.tags.items() <= found.tags.items()
    assert (found.codec, found.pix_fmt) == ("h264", "yuv420p")


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("write_mode", WRITE_MODES)
def test_every_quality_and_write_mode_plays(tmp_path: Path, quality: str, write_mode: str) -> None:
    write(tmp_path / "clip.mp4", quality=quality, write_mode=write_mode)
    assert probe(tmp_path / "clip.mp4").frames == 5


def test_a_better_quality_is_a_larger_file(tmp_path: Path) -> None:
    sizes = []
    for quality in ("low", "medium", "high", "maximum"):
        file = tmp_path / f"{quality}.mp4"
        write(file, quality=quality)
        sizes.append(file.stat().st_size)
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("suffix", ["mp4", "webm"])
def test_colour_bars_come_back_within_two_levels(tmp_path: Path, suffix: str) -> None:
    bars = np.zeros((64, 32 * len(BARS), 3), np.uint8)
    for i, colour in enumerate(BARS):
        bars[:, 32 * i : 32 * (i + 1)] = colour
    path = tmp_path / f"bars.{suffix}"
    write(path, frames=iter([bars] * 5), width=bars.shape[1], quality="maximum")
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        tags = (context.colorspace, context.color_primaries, context.color_trc, context.color_range)
        planes = list(container.decode(video=0))[-1].to_ndarray().astype(float)
    assert tuple(int(tag) for tag in tags) == (1, 1, 1, 1)
    for i, colour in enumerate(BARS):
        luma = planes[8:56, 32 * i + 8 : 32 * i + 24]
        chroma = planes[64:].reshape(2, 32, -1)[:, 4:28, 16 * i + 4 : 16 * i + 12]
        assert np.abs(bt709_rgb(luma, *chroma.mean((1, 2))) - colour).max() <= 2


def bt709_rgb(luma: npt.NDArray[np.float64], cb: float, cr: float) -> npt.NDArray[np.float64]:
    """8-bit limited-range Y, Cb, Cr to 0..255 RGB in the last axis, by ITU-R BT.709 itself."""
    y, pb, pr = (luma - 16) / 219, (cb - 128) / 224, (cr - 128) / 224
    red, blue = y + 1.5748 * pr, y + 1.8556 * pb
    return 255 * np.stack((red, (y - 0.2126 * red - 0.0722 * blue) / 0.7152, blue), -1)


def test_the_index_comes_before_the_pictures(tmp_path: Path) -> None:
    write(tmp_path / "clip.mp4")
    names = atoms((tmp_path / "clip.mp4").read_bytes())
    assert names.index(b"moov") < names.index(b"mdat")


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=200)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(prompt=TEXT, workflow=TEXT)
@example(prompt="鴨 🦆 \\;=#\n'\"", workflow="ä" * 400_000)
def test_tags_come_back_as_they_were(tmp_path: Path, prompt: str, workflow: str) -> None:
    path = tmp_path / "clip.mp4"
    tags = {PROMPT: prompt, WORKFLOW: workflow, RECEIPT: "{}"}
    write(path, 1, tags=tags)
    found = probe(path).tags
    assert {key: found[key] for key in tags} == tags


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_a_tag_that_no_file_can_hold_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(MediaError, match="'prompt'"):
        write(tmp_path / "clip.mp4", tags={PROMPT: text})
    assert_nothing_is_left(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 111}, "111x64"),
        ({"height": 63}, "112x63"),
        ({"width": 0}, "0x64"),
        ({"frame_count": 0}, "at least one"),
        ({"frame_count": 4}, "more than the 4"),
        ({"frame_count": 6}, "only 5 of the 6"),
        ({"width": 96}, "frame 0 is uint8"),
        ({"quality": "best"}, "low, medium, high, maximum"),
        ({"write_mode": "slow"}, "fast, balanced, small"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_no_file(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(MediaError, match=message):
        write(tmp_path / "clip.mp4", **changes)
    assert_nothing_is_left(tmp_path)


class HostInterrupt(BaseException):
    """ComfyUI may interrupt with something that is not an Exception."""


@pytest.mark.parametrize("error", [HostInterrupt, KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("where", ["source", "progress"])
def test_an_interruption_passes_through_and_leaves_nothing(
    tmp_path: Path, error: type[BaseException], where: str
) -> None:
    def stop() -> None:
        raise error

    def source() -> Iterator[Frame]:
        yield from moving(9)
        stop()

    progress = Watching(lambda: stop() if where == "progress" and len(progress.done) == 7 else None)
    with pytest.raises(error):
        write(tmp_path / "clip.mp4", frames=source(), frame_count=20, progress=progress)
    assert_nothing_is_left(tmp_path)


def test_a_failed_run_keeps_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write(path)
    before = path.read_bytes()
    with pytest.raises(MediaError):
        write(path, frame_count=6)
    assert path.read_bytes() == before


def test_the_source_is_closed_on_failure(tmp_path: Path) -> None:
    source = moving(9)
    with pytest.raises(MediaError):
        write(tmp_path / "clip.mp4", frames=source, frame_count=2)
    assert list(source) == []


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no such folder"):
        write(tmp_path / "no such folder" / "clip.mp4")


def test_progress_hears_of_every_frame_and_may_stop_at_every_frame(tmp_path: Path) -> None:
    checks: list[int] = []
    progress = Watching(lambda: checks.append(1))
    write(tmp_path / "clip.mp4", 9, progress=progress)
    assert progress.stages == [("video", 9, "frames")]
    assert progress.done == list(range(1, 10))
    assert len(checks) == 9 + 1  # and before the file is finished


def test_a_slow_encoder_holds_the_source_back(tmp_path: Path) -> None:
    """RGB frames alive: the queue, and the ones in hand on both sides; x264 keeps its own YUV copies."""
    alive: set[int] = set()
    most = []

    def source() -> Iterator[Frame]:
        for index, frame in enumerate(moving(60, 640, 352)):
            alive.add(index)
            weakref.finalize(frame, alive.discard, index)
            yield frame
            most.append(len(alive))

    write(tmp_path / "clip.mp4", frames=source(), frame_count=60, width=640, height=352, write_mode="small")
    assert max(most) <= 7


def test_a_file_that_is_no_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("this is not a video")
    with pytest.raises(MediaError, match=r"text\.mp4"):
        probe(tmp_path / "text.mp4")
    with pytest.raises(MediaError, match=r"missing\.mp4"):
        probe(tmp_path / "missing.mp4")


def test_a_file_cut_short_is_not_what_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write(path, 33)
    path.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(MediaError):
        verify(probe(path), frames=33, width=WIDTH, height=HEIGHT, fps=Fraction(16))


def test_verify_names_every_difference(tmp_path: Path) -> None:
    facts = write(tmp_path / "clip.mp4")
    with pytest.raises(MediaError, match="frames is 5, expected 9; fps is 16, expected 32"):
        verify(facts, frames=9, width=WIDTH, height=HEIGHT, fps=Fraction(32))


class Watching:
    """A progress that writes down what it hears."""

    def __init__(self, on_check: Callable[[], object]) -> None:
        self.on_check = on_check
        self.stages: list[tuple[str, int, str]] = []
        self.done: list[int] = []

    def begin(self, stage: str, total: int, unit: str) -> None:
        self.stages.append((stage, total, unit))

    def advance(self, done: int, preview: object = None) -> None:
        assert preview is None
        self.done.append(done)

    def check(self) -> None:
        self.on_check()


def atoms(data: bytes) -> list[bytes]:
    """Names of the top-level boxes of an MP4, in order."""
    names, at = [], 0
    while at < len(data):
        names.append(data[at + 4 : at + 8])
        at += int.from_bytes(data[at : at + 4], "big")
    return names
