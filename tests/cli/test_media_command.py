"""`wan-duet media`: files are read upright and in colour, written anew with what is theirs, and probed."""

from __future__ import annotations

import ast
import json
import re
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from wan_duet.pipelines.cli import main
from wan_duet.pipelines.embedded.toy_model import toy_folder
from wan_duet.pipelines.errors import MediaError
from wan_duet.pipelines.video.audio import read_audio
from wan_duet.pipelines.video.edit import Edit
from wan_duet.pipelines.video.latent_file import LatentFile, read_latents, write_latents
from wan_duet.pipelines.video.open_media import exact_fraction
from wan_duet.pipelines.video.probe import VideoFacts, probe
from wan_duet.pipelines.video.read import read_frames

from ..video.clips import HEIGHT, WIDTH, moving, soft, tone, write

ROOT = Path(__file__).resolve().parents[2]
TAGS = {"prompt": "{}", "workflow": '{"nodes": []}', "wan_duet": "{}"}


class Pair:
    """A rate as PyAV 19 gives it: not a Fraction, and false where it is not known."""

    def __init__(self, numerator: int, denominator: int) -> None:
        self.numerator, self.denominator = numerator, denominator

    def __bool__(self) -> bool:
        return bool(self.numerator and self.denominator)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """9 frames at 16 fps with a sound that is longer, lossless."""
    write(tmp_path / "clip.mkv", 9, tags=TAGS, audio=tone(2))
    return tmp_path / "clip.mkv"


def convert(clip: Path, name: str, *flags: str) -> VideoFacts:
    out = clip.with_name(name)
    assert main(["media", "convert", str(clip), "-o", str(out), "--write-mode", "fast", *flags]) == 0
    return probe(out)


@pytest.mark.parametrize("suffix", ["mp4", "webm", "mkv", "webp"])
def test_a_file_is_read_as_it_was_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    write(path, 5, soft(5), quality="maximum")
    frames = list(read_frames(path))
    assert len(frames) == 5
    for frame, was in zip(frames, soft(5), strict=True):
        assert frame.shape == (HEIGHT, WIDTH, 3)
        assert np.abs((frame - was.astype(float)) @ (0.2126, 0.7152, 0.0722)).mean() < 3  # colour is halved


def test_colours_are_read_by_the_matrix_that_the_file_names(tmp_path: Path) -> None:
    colours = np.array([[235, 16, 16], [16, 235, 16], [16, 16, 235], [180, 120, 90]], np.uint8)
    picture = np.repeat(np.repeat(colours[None], 32, 1), 64, 0)
    write(tmp_path / "a.mp4", 1, iter([picture]), width=128, height=64, quality="maximum")
    (frame,) = read_frames(tmp_path / "a.mp4")
    assert np.abs(frame[32, 16::32].astype(int) - colours).max() <= 2


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [((0, 1, -1, 0), -1), ((0, -1, 1, 0), 1), ((-1, 0, 0, -1), 2)],
    ids=["clockwise", "counterclockwise", "upside down"],
)
def test_a_turned_phone_is_read_upright(tmp_path: Path, matrix: tuple[int, ...], turn: int) -> None:
    path = tmp_path / "a.mp4"
    write(path, 2)
    straight = list(read_frames(path))
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # ISO/IEC 14496-12 8.3.2, version 0
    a, b, c, d = (value * 0x10000 for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000)
    path.write_bytes(data)
    frames = list(read_frames(path))
    assert np.array_equal(frames[0], np.rot90(straight[0], turn))
    assert (probe(path).height, probe(path).width) == frames[0].shape[:2]


def test_reading_stops_where_nobody_reads_on(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", 33)
    stream = read_frames(tmp_path / "a.mp4")
    next(stream)
    stream.close()
    (tmp_path / "a.mp4").unlink()


@pytest.mark.parametrize("read", [lambda path: list(read_frames(path)), probe])
@pytest.mark.parametrize("suffix", ["mp4", "webp"])
def test_a_file_that_is_no_video_is_named(
    tmp_path: Path, suffix: str, read: Callable[[Path], object]
) -> None:
    path = tmp_path / f"text.{suffix}"
    for content in (None, b"", b"this is no video"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(MediaError, match=rf"text\.{suffix}"):
            read(path)


@pytest.mark.parametrize("suffix", ["mp4", "webm"])
def test_another_container_keeps_pictures_times_tags_and_sound(clip: Path, suffix: str) -> None:
    made = convert(clip, f"a.{suffix}")
    assert (made.frames, made.fps, made.width, made.height) == (9, 16, WIDTH, HEIGHT)
    assert TAGS.items() <= made.tags.items()
    assert made.audio is not None
    assert made.audio.duration_s == pytest.approx(9 / 16, abs=0.025)


@pytest.mark.parametrize("suffix", ["mp4", "webm", "mkv"])
def test_tags_that_are_not_utf8_are_read_printed_and_written_anew(
    tmp_path: Path, suffix: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Files of older programs have them in Latin-1. Every PyAV reads the same from them."""
    path = write(tmp_path / f"a.{suffix}", 2, tags={"a_name": "a cafe#", "b#name": "b"}).path
    whole = path.read_bytes()
    assert whole.lower().count(b"#") >= 2
    path.write_bytes(
        whole.replace(b"cafe#", b"cafe\xe9").replace(b"#name", b"\xe9name").replace(b"#NAME", b"\xe9NAME")
    )
    tags = {name.lower(): text for name, text in probe(path).tags.items()}
    assert (tags["a_name"], tags["b\ufffdname"]) == ("a cafe\ufffd", "b")

    assert len(list(read_frames(path))) == 2
    assert read_audio(path) is None
    for flags in ([], ["--json"]):
        assert main(["media", "probe", str(path), *flags]) == 0
        assert "a cafe\ufffd".encode() in capfdbinary.readouterr().out
    tags = {name.lower(): text for name, text in convert(path, "b.mkv").tags.items()}
    assert (tags["a_name"], tags["b\ufffdname"]) == ("a cafe\ufffd", "b")


def test_only_one_place_opens_media_for_reading() -> None:
    """What a version of PyAV wants to be told is known there, see `open_media.open_media`."""
    found = []
    for top in ("pipelines", "nodes", "bench", "tools"):
        for file in (ROOT / top).rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            if not re.search(r"\bav\b", text):
                continue
            tree = ast.parse(text)
            assert not [
                node
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom)
                and node.module == "av"
                and "open" in [name.name for name in node.names]
            ], file
            found += [file.relative_to(ROOT).as_posix() for node in ast.walk(tree) if is_read(node)]
    assert found == ["pipelines/video/open_media.py"]


def is_read(node: ast.AST) -> bool:
    """Whether it is `av.open(...)` without the mode "w"."""
    if not isinstance(node, ast.Call) or ast.unparse(node.func) != "av.open":
        return False
    modes = [*node.args[1:2], *(word.value for word in node.keywords if word.arg == "mode")]
    return [ast.unparse(mode) for mode in modes] != ["'w'"]


@pytest.mark.parametrize(
    ("said", "is_"),
    [
        (None, None),
        (Fraction(24000, 1001), Fraction(24000, 1001)),
        (Pair(25, 1), Fraction(25)),
        (Pair(0, 1), None),
        (Pair(0, 0), None),
    ],
)
def test_what_a_file_does_not_say_of_its_times_is_unknown(said: Any, is_: Fraction | None) -> None:
    assert exact_fraction(said) == is_


def test_a_lossless_copy_is_the_same_to_the_bit(clip: Path) -> None:
    convert(clip, "copy.mkv")
    pairs = zip(read_frames(clip), read_frames(clip.with_name("copy.mkv")), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


def test_a_thumbnail_leaves_the_sound_out_and_says_so(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = convert(clip, "a.webp")
    assert made.audio is None
    assert TAGS.items() <= made.tags.items()
    assert "the sound is left out" in capsys.readouterr().err


def test_the_sound_is_left_out_when_asked(clip: Path) -> None:
    assert convert(clip, "a.mp4", "--no-audio").audio is None


def test_backwards_is_the_last_frame_first(clip: Path) -> None:
    convert(clip, "back.mkv", "--reverse")
    pairs = zip(read_frames(clip.with_name("back.mkv")), reversed(list(moving(9))), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    ("flags", "frames", "fps"),
    [
        (["--num-interpolated-frames", "1"], 17, "32"),
        (["--num-interpolated-frames", "4", "--interpolator", "flow"], 41, "80"),
        (["--num-interpolated-frames", "4", "--no-adjust-fps"], 41, "16"),
        (["--num-interpolated-frames", "1", "--fps", "24000/1001"], 27, "48000/1001"),
        (["--fps", "24", "--interpolator", "flow"], 13, "24"),
        (["--num-interpolated-frames", "4", "--interpolator", "none"], 9, "16"),
        (["--num-interpolated-frames", "0"], 9, "16"),
        (["--fps", "60"], 34, "60"),
        (["--fps", "8"], 5, "8"),
    ],
)
def test_counts_and_rates(tmp_path: Path, flags: list[str], frames: int, fps: str) -> None:
    write(tmp_path / "a.mkv", 9, moving(9, 32, 32), width=32, height=32)
    made = convert(tmp_path / "a.mkv", "a.mp4", *flags)
    assert (made.frames, made.fps) == (frames, Fraction(fps))


def test_one_frame_stays_one_frame_at_its_rate(tmp_path: Path) -> None:
    write(tmp_path / "one.mkv", 1)
    made = convert(tmp_path / "one.mkv", "a.mp4", "--num-interpolated-frames", "4")
    assert (made.frames, made.fps) == (1, 16)


def test_a_file_may_be_written_over_itself(clip: Path) -> None:
    assert convert(clip, clip.name, "--reverse").frames == 9
    assert np.array_equal(next(read_frames(clip)), list(moving(9))[-1])


def test_a_place_that_cannot_be_written_is_found_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.mp4").mkdir()
    for command in ("convert", "decode"):
        source = ["--model", "toy"] if command == "decode" else []
        for out in ("folder.mp4", "no such folder/a.mp4"):
            missing = str(tmp_path / "missing")
            assert main(["media", command, missing, "-o", str(tmp_path / out), *source]) == 1
            assert f"cannot write {tmp_path / out}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["-o", "a.avi"], 1, "cannot write .avi"),
        (["-o", "a.mp4", "--interpolator", "rife"], 2, "--num-interpolated-frames: not given"),
        (
            ["-o", "a.mp4", "--interpolator", "rife", "--num-interpolated-frames", "1"],
            1,
            "rife needs",
        ),
        (["-o", "no such folder/a.mp4"], 1, "no such folder"),
    ],
)
def test_what_cannot_be_done_is_said(
    clip: Path, flags: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags[1] = str(clip.parent / flags[1])
    assert main(["media", "convert", str(clip), *flags]) == code
    assert message in capsys.readouterr().err
    assert [file.name for file in clip.parent.iterdir()] == ["clip.mkv"]


@pytest.mark.parametrize(
    "flag",
    [
        ["--fps", "0"],
        ["--fps", "1/0"],
        ["--num-interpolated-frames", "-1"],
        ["--audio-track", "-1"],
        ["--odd", "stretch"],
    ],
)
def test_numbers_that_are_none_are_refused(clip: Path, flag: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(["media", "convert", str(clip), "-o", "a.mp4", *flag])


def test_probe_answers_with_json(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["media", "probe", str(clip), "--json"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (answer["frames"], answer["fps"], answer["codec"]) == (9, "16", "ffv1")
    assert answer["audio"]["codec"] == "flac"
    assert TAGS.items() <= answer["tags"].items()


def test_probe_answers_people(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["media", "probe", str(clip)]) == 0
    assert "112x64, 9 frames, 16 fps" in capsys.readouterr().out


def some_latents() -> torch.Tensor:
    return torch.randn(1, 16, 2, 4, 8, generator=torch.Generator().manual_seed(0))


def test_kept_latents_become_the_video_they_were_meant_for(tmp_path: Path) -> None:
    edit = Edit(Fraction(24), reverse=True, interpolator="flow", num_interpolated_frames=1)
    write_latents(tmp_path / "a.latent", LatentFile(some_latents(), edit, 3, TAGS))
    out = tmp_path / "a.mkv"
    assert main(["media", "decode", str(tmp_path / "a.latent"), "--model", "toy", "-o", str(out)]) == 0
    made = probe(out)
    assert (made.frames, made.fps) == (5, 48)
    assert TAGS.items() <= made.tags.items()
    assert (tmp_path / "a.latent").exists()


def test_flags_win_over_what_the_latents_were_meant_for(tmp_path: Path) -> None:
    write_latents(tmp_path / "a.latent", LatentFile(some_latents(), Edit(Fraction(24), reverse=True)))
    out = tmp_path / "a.mkv"
    command = ["media", "decode", str(tmp_path / "a.latent"), "--model", "toy", "-o", str(out)]
    assert main([*command, "--fps", "8"]) == 0
    backward = list(read_frames(out))
    assert main([*command, "--no-reverse"]) == 0
    pairs = zip(read_frames(out), reversed(backward), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


def test_the_vae_alone_is_enough(tmp_path: Path) -> None:
    write_latents(tmp_path / "a.latent", LatentFile(some_latents()))
    command = ["media", "decode", str(tmp_path / "a.latent"), "--precision", "fp32", "-o"]
    whole, alone = tmp_path / "whole.mkv", tmp_path / "alone.mkv"
    assert main([*command, str(whole), "--model", "toy"]) == 0
    assert main([*command, str(alone), "--vae", str(toy_folder() / "vae")]) == 0
    assert all(np.array_equal(a, b) for a, b in zip(read_frames(whole), read_frames(alone), strict=True))


@pytest.mark.parametrize(
    ("name", "codec", "what"), [("a.mp4", b"avc1", "video"), ("a.mkv", b"A_FLAC", "audio")]
)
def test_a_stream_that_nobody_decodes_is_named(
    tmp_path: Path, name: str, codec: bytes, what: Literal["video", "audio"]
) -> None:
    path = tmp_path / name
    write(path, 5, audio=tone(1))
    path.write_bytes(path.read_bytes().replace(codec, codec[:-4] + b"ZZZZ"))
    other: Callable[[Path], object] = read_audio if what == "audio" else lambda path: list(read_frames(path))
    for read in (probe, other):
        with pytest.raises(
            MediaError, match=rf"the {what} of .*{name} is in a format that cannot be decoded"
        ):
            read(path)


def test_a_small_file_that_promises_a_huge_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    write(path, 3)
    data = bytearray(path.read_bytes())
    data[24:30] = b"\xfe\x3f\0" * 2  # 16383 x 16383, the largest that the format knows
    path.write_bytes(data)
    for read in (probe, lambda path: list(read_frames(path))):
        with pytest.raises(MediaError, match=r"a\.webp as a video: Image size"):
            read(path)


@pytest.mark.parametrize(
    "settings",
    [
        [1],
        {"frames": 3},
        {"edit": {"fps": "16"}},
        {"edit": {"fps": "0"}, "frames": 3},
        {"edit": {"fps": "16", "reverse": "yes"}, "frames": 3},
        {"edit": {"fps": "16", "num_interpolated_frames": -1}, "frames": 3},
        {"edit": {"fps": "16", "colour": 1}, "frames": 3},
        {"edit": {"fps": "16"}, "frames": "3"},
        {"edit": {"fps": "16"}, "frames": 0},
    ],
)
def test_damaged_settings_beside_latents_are_named(tmp_path: Path, settings: object) -> None:
    latents = torch.zeros(1, 16, 1, 4, 4)
    write_latents(tmp_path / "a.latent", LatentFile(latents, tags={"wan_duet_edit": json.dumps(settings)}))
    with pytest.raises(MediaError, match=r"a\.latent"):
        read_latents(tmp_path / "a.latent")


@pytest.mark.parametrize(
    "write_it",
    [
        lambda path: path.write_bytes(b"\0" * 20),
        lambda path: write_latents(path, LatentFile(torch.zeros(1, 16, 4, 4))),
        lambda path: write_latents(path, LatentFile(torch.zeros(2, 16, 1, 4, 4))),
    ],
    ids=["damaged", "an image", "a batch"],
)
def test_latents_that_are_none_are_refused(tmp_path: Path, write_it: Callable[[Path], object]) -> None:
    write_it(tmp_path / "a.latent")
    with pytest.raises(MediaError, match=r"a\.latent"):
        read_latents(tmp_path / "a.latent")
