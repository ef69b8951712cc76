"""`-` is standard input and output: the same bytes as through files, and nothing else among them."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from wan_duet.pipelines.cli import main

from ..video.clips import moving, tone, write

Run = Callable[..., tuple[int, bytes]]


class Pipe(io.TextIOWrapper):
    def __init__(self, content: bytes = b"", terminal: bool = False) -> None:
        super().__init__(io.BytesIO(content))
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs a command with this input. It returns code and output."""

    def with_input(*command: str, given: bytes = b"", terminal: bool = False) -> tuple[int, bytes]:
        printed = Pipe(terminal=terminal)
        monkeypatch.setattr(sys, "stdin", Pipe(given, terminal))
        monkeypatch.setattr(sys, "stdout", printed)
        code = main(["media", *command])
        printed.flush()
        return code, printed.buffer.getvalue()

    return with_input


@pytest.mark.parametrize(
    ("flags", "suffix", "magic"),
    [
        ((), "mp4", b"ftyp"),
        (("--codec", "h265"), "mp4", b"ftyp"),
        (("--codec", "prores"), "mov", b"ftyp"),
        (("--container", "webm"), "webm", b"\x1aE\xdf\xa3"),
        (("--container", "gif"), "gif", b"GIF89a"),
    ],
)
def test_a_pipe_gets_the_bytes_of_the_file(
    tmp_path: Path, run: Run, flags: tuple[str, ...], suffix: str, magic: bytes
) -> None:
    source = write(tmp_path / "a.mkv", 3, tags={"prompt": "a kite"}).path
    codec = flags if flags[:1] == ("--codec",) else ()
    assert run("convert", str(source), "-o", str(tmp_path / f"b.{suffix}"), *codec)[0] == 0
    code, printed = run("convert", "-", "-o", "-", *flags, given=source.read_bytes())
    assert code == 0
    assert magic in printed[:12]
    if suffix != "webm":  # which has a random number of its own
        assert printed == (tmp_path / f"b.{suffix}").read_bytes()


def test_what_is_said_goes_elsewhere(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "a.mkv", 3, audio=tone(1)).path
    assert run("convert", str(source), "-o", "-", "--container", "webp")[0] == 0
    told = capsys.readouterr().err
    assert "the sound is left out" in told
    assert "-: 112x64, 3 frames" in told
    assert "inside the video and not beside it" in told


def test_a_sheet_goes_through_pipes_too(tmp_path: Path, run: Run) -> None:
    source = write(tmp_path / "a.mkv", 3).path
    code, printed = run("sheet", "-", "-o", "-", "--columns", "2", given=source.read_bytes())
    assert code == 0
    with Image.open(io.BytesIO(printed)) as sheet:
        assert (sheet.format, sheet.width) == ("PNG", 2 * 240 + 4)


@pytest.mark.parametrize("suffix", ["mp4", "webm", "mkv", "webp", "gif"])
def test_every_kind_is_read_from_a_pipe(tmp_path: Path, run: Run, suffix: str) -> None:
    content = write(tmp_path / f"a.{suffix}", 3, moving(3)).path.read_bytes()
    code, printed = run("probe", "-", "--json", given=content)
    assert code == 0
    found = json.loads(printed)
    assert (found["path"], found["frames"], found["width"]) == ("-", 3, 112)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("probe", "-"), "standard input is empty"),
        (("convert", "-", "-o", "-", "--codec", "png"), "png is many files"),
        (("convert", "-", "-o", "b.mp4", "--container", "mkv"), "--container: mkv, but b.mp4"),
        (("convert", "-", "-o", "-", "--codec", "prores", "--container", "mp4"), ".mov holds prores"),
    ],
)
def test_what_cannot_be_piped_is_refused(
    run: Run, command: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, printed = run(*command)
    assert code > 0
    assert printed == b""
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("probe", "-"), "standard input is a terminal"),
        (("convert", "{}", "-o", "-"), "output is a terminal"),
    ],
)
def test_nobody_types_or_reads_a_video(
    tmp_path: Path, run: Run, command: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "a.mkv", 2).path
    code, printed = run(*(part.format(source) for part in command), terminal=True)
    assert (code, printed) == (2, b"")
    assert said in capsys.readouterr().err
