"""Flash and beep stay together, whatever the times in a file; a file of constant rate keeps every frame."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from wan_duet.pipelines.cli import main
from wan_duet.pipelines.video.probe import probe
from wan_duet.pipelines.video.read import read_frames

from .clips import moving, soft, tone, write
from .flash_and_beep import Seen, constant, look, phone, remuxed, screen, write_clip

SECONDS = 4
HALF_A_FRAME = 0.5 / 30
CODEC_EDGE = 0.003  # a beep sounds a little before its start in AAC and Opus, whose blocks overlap

CASES = {
    "constant": (constant(30, SECONDS), {}),
    "b-frames": (constant(30, SECONDS), {"b_frames": 3}),
    "30 then 24": (phone(SECONDS), {}),
    "b-frames, 30 then 24": (phone(SECONDS), {"b_frames": 3}),
    # MP4 and MOV cut what lies before 0 by an edit list; the others move both streams.
    "negative first stamp": (constant(30, SECONDS), {"picture_from": -0.25, "sound_from": -0.25}),
    "picture before 0": (constant(30, SECONDS), {"picture_from": -0.25}),
    "screen recording": (screen(SECONDS), {}),
    "picture late": (constant(30, SECONDS), {"picture_from": 0.7}),
    "picture late by less than a frame": (phone(SECONDS), {"picture_from": 0.02}),
    "sound late": (constant(30, SECONDS), {"sound_from": 0.5}),
    "sound late, 30 then 24": (phone(SECONDS), {"sound_from": 0.25}),
}
VARYING = {"mp4", "mov", "mkv", "webm", "ts"}  # AVI has no offsets, and numbers instead of times
MATRIX = [
    (suffix, case)
    for suffix in ("mp4", "mov", "mkv", "webm", "ts", "avi")
    for case in CASES
    if suffix in VARYING or case in ("constant", "b-frames")
    if not (suffix == "webm" and case.startswith("b-frames"))
]


def convert(source: Path, name: str = "out.mp4", *flags: str) -> Path:
    out = source.with_name(name)
    assert main(["media", "convert", str(source), "-o", str(out), "--write-mode", "fast", *flags]) == 0
    return out


def assert_together(source: Path, made: Path) -> None:
    """A flash is as far from its beep as in the source, within half a frame."""
    before, after = apart(look(source)), apart(look(made))
    assert np.abs(before).max() <= 0.021, "the source is not what it should be"
    assert np.abs(after - before).max() <= HALF_A_FRAME + CODEC_EDGE


def apart(seen: Seen) -> np.ndarray:
    """Return the seconds from each beep to its flash."""
    count = min(len(seen.flashes), len(seen.beeps))
    assert count >= 2
    return np.subtract(seen.flashes[:count], seen.beeps[:count])


@pytest.mark.parametrize(("suffix", "case"), MATRIX)
def test_flash_and_beep_stay_together(tmp_path: Path, suffix: str, case: str) -> None:
    times, offsets = CASES[case]
    source = tmp_path / f"a.{suffix}"
    write_clip(source, times, **offsets)
    made = convert(source)
    if (
        suffix == "avi"
    ):  # libav shows its frames later by the delay of the B-frames, so it cannot be the judge
        assert np.abs(apart(look(made))).max() <= HALF_A_FRAME
    else:
        assert_together(source, made)


@pytest.mark.parametrize("times", [phone(SECONDS), screen(SECONDS)], ids=["30 then 24", "screen recording"])
def test_an_avi_that_leaves_out_frames_keeps_the_times_of_the_others(
    tmp_path: Path, times: list[float]
) -> None:
    """As video capture leaves them out: an empty chunk stands for each."""
    write_clip(tmp_path / "a.avi", times, fps=120)
    assert np.abs(apart(look(convert(tmp_path / "a.avi")))).max() <= HALF_A_FRAME


def test_an_avi_may_count_twice_as_fast_as_its_frames_come(tmp_path: Path) -> None:
    """As ffmpeg copies H.264 with B-frames into one."""
    write_clip(tmp_path / "a.avi", constant(25, SECONDS), fps=50, b_frames=3)
    made = convert(tmp_path / "a.avi")
    assert (probe(made).fps, probe(made).frames) == (25, 25 * SECONDS)
    assert np.abs(apart(look(made))).max() <= HALF_A_FRAME


def test_a_raw_stream_has_the_rate_that_its_frames_state(tmp_path: Path) -> None:
    source = tmp_path / "a.h264"
    with av.open(str(source), "w", format="h264") as output:
        video = output.add_stream("libx264", rate=30)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for picture in moving(15, 64, 48):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            output.mux(video.encode(frame.reformat(format="yuv420p")))
        output.mux(video.encode(None))
    made = probe(convert(source))
    assert (made.fps, made.frames) == (30, 15)


def test_theora_may_repeat_a_frame_without_storing_it(tmp_path: Path) -> None:
    """libtheora writes an empty packet for a frame that is like the one before."""
    tool = shutil.which("ffmpeg")
    if tool is None or b"libtheora" not in subprocess.run([tool, "-encoders"], capture_output=True).stdout:
        pytest.skip("needs ffmpeg with libtheora")
    source = tmp_path / "a.ogv"
    still = "color=c=gray:s=64x48:r=25:d=1,drawbox=c=white:t=fill:enable='gte(n,10)*lt(n,15)+eq(n,24)'"
    subprocess.run([tool, "-v", "error", "-f", "lavfi", "-i", still, "-c:v", "libtheora", source], check=True)
    frames = np.stack([*read_frames(convert(source))])
    assert len(frames) == 25
    assert np.flatnonzero(frames.mean((1, 2, 3)) > 200).tolist() == [10, 11, 12, 13, 14, 24]


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
@pytest.mark.parametrize("times", [constant(30, SECONDS), phone(SECONDS)], ids=["constant", "30 then 24"])
def test_a_cut_by_an_edit_list_is_kept(tmp_path: Path, suffix: str, times: list[float]) -> None:
    """The file begins within a group of pictures: what lies before has negative times and is not shown."""
    write_clip(tmp_path / f"whole.{suffix}", times)
    source = tmp_path / f"a.{suffix}"
    remuxed(tmp_path / f"whole.{suffix}", source, lambda _: -1.5)
    assert_together(source, convert(source))


@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize(("picture", "sound"), [(-1 / 30, 0.0), (-0.25, 0.0), (-0.25, -0.25), (0.0, -0.25)])
def test_what_lies_before_the_start_of_a_matroska_file_keeps_its_place(
    tmp_path: Path, picture: float, sound: float, b_frames: int
) -> None:
    """libav gives such frames no time."""
    source = tmp_path / "a.mkv"
    offsets = {"picture_from": picture, "sound_from": sound}
    write_clip(source, constant(30, SECONDS), **offsets, b_frames=b_frames, avoid_negative_ts="disabled")
    assert np.abs(apart(look(convert(source)))).max() <= HALF_A_FRAME + CODEC_EDGE


def test_the_way_to_a_file_may_differ_but_not_its_times(tmp_path: Path) -> None:
    """The largest deviation of the phone's clip is told, and gone in the converted one."""
    source = tmp_path / "a.mp4"
    write_clip(source, phone(10))
    before, after = probe(source), probe(convert(source, "out.mp4"))
    # 270 frames in 10 s: the 150th comes at 5 s, and would at a constant rate at 5.55 s.
    assert before.largest_deviation_s == pytest.approx(0.55, abs=0.03)
    assert before.times is not None
    assert not before.times.is_constant
    assert (after.fps, after.frames) == (30, 300)
    assert after.largest_deviation_s == pytest.approx(0, abs=1e-6)


def test_probe_tells_the_largest_deviation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_clip(tmp_path / "a.mp4", phone(10))
    assert main(["media", "probe", str(tmp_path / "a.mp4")]) == 0
    assert "rate: varying, frames are up to 0.5" in capsys.readouterr().out
    assert main(["media", "probe", str(tmp_path / "a.mp4"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["largest_deviation_s"] == pytest.approx(0.55, abs=0.03)
    assert answer["audio"]["offset_s"] == pytest.approx(0, abs=0.001)


@pytest.mark.parametrize("fps", [Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(60)])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm"])
def test_a_constant_rate_neither_loses_nor_repeats_a_frame(
    tmp_path: Path, suffix: str, fps: Fraction
) -> None:
    source = write(tmp_path / f"a.{suffix}", 70, soft(70), fps=fps, audio=tone(2)).path
    made = convert(source, "copy.mkv")
    assert [hash_of(frame) for frame in read_frames(made)] == [
        hash_of(frame) for frame in read_frames(source)
    ]
    assert probe(made).fps == pytest.approx(fps, rel=1e-5)


def hash_of(frame: np.ndarray) -> str:
    return hashlib.sha256(frame.tobytes()).hexdigest()


def test_another_rate_keeps_duration_and_sound(tmp_path: Path) -> None:
    source = tmp_path / "a.mp4"
    write_clip(source, constant(30, SECONDS))
    for fps, frames in (("24", 96), ("60", 240), ("30000/1001", 120)):
        made = convert(source, "out.mp4", "--fps", fps)
        assert (probe(made).frames, probe(made).fps) == (frames, Fraction(fps))
        assert_together(source, made)


def test_slow_motion_does_not_stretch_the_sound(tmp_path: Path) -> None:
    source = tmp_path / "a.mp4"
    write_clip(source, phone(SECONDS))
    made = probe(convert(source, "out.mp4", "--num-interpolated-frames", "1", "--no-adjust-fps"))
    assert made.fps == 30
    assert made.frames == pytest.approx(2 * SECONDS * 30, abs=1)
    assert made.audio is not None
    assert made.audio.duration_s == pytest.approx(SECONDS, abs=0.05)
