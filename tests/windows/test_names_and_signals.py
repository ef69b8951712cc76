"""Names, signals and processes as other systems have them, decided without one of those systems."""

from __future__ import annotations

import ast
import re
import signal
from pathlib import Path

import pytest

from wan_duet.pipelines.cli.terminal import stop_signals
from wan_duet.pipelines.download.store import Store
from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.files.file_names import require_file_name, too_long

ROOT = Path(__file__).resolve().parents[2]

REFUSED = {
    "CON": "CON is a device",
    r"out\nul.mp4": "nul.mp4 is a device",
    "COM1.tar.mp4": "is a device",
    "lpt³.png": "is a device",
    r"aux\a.mp4": "aux is a device",
    "con .mp4": "is a device",
    "a:b.mp4": "whatever folder",
    "ab:c.mp4": "no ':'",
    r"C:\x\12:30.mp4": "no ':'",
    "what?.mp4": r"no '\?'",
    'a"b.mp4': "no '\"'",
    "a\tb.mp4": r"no '\\t'",
    "a.mp4.": "drops the '.'",
    r"out \a.mp4": "drops the ' '",
    "C:a.mp4": r"whatever folder.*give C:\\a\.mp4",
    r"C:out\a.mp4": r"give C:\\out\\a\.mp4",
    r"\\.\NUL": "device",
    r"\\server\clip.mp4": "a share of another machine",
    "C:\\": "a folder",
}
TAKEN = [
    "a.mp4",
    "console.mp4",
    "nullable.mp4",
    "com10.mp4",
    r"..\a.mp4",
    r".\out\.hidden.mp4",
    r"C:\out\a b.mp4",
    "C:/out/a.mp4",
    r"\\server\share\a.mp4",
    r"\\?\C:\out\a.mp4",
    "漢字 ü.mp4",
]


@pytest.mark.parametrize("name", REFUSED)
def test_a_name_that_windows_has_not_is_refused_there_and_nowhere_else(name: str) -> None:
    with pytest.raises(RequestError, match=REFUSED[name]) as caught:
        require_file_name(name, "win32")
    assert "output" in str(caught.value)
    for platform in ("linux", "darwin"):
        require_file_name(name, platform)


@pytest.mark.parametrize("name", TAKEN)
def test_a_name_that_windows_has_is_taken(name: str) -> None:
    require_file_name(name, "win32")


@pytest.mark.parametrize(
    ("length", "prefix", "platform", "said"),
    [
        (259, "C:\\", "win32", False),
        (260, "C:\\", "win32", True),
        (400, "\\\\?\\C:\\", "win32", False),
        (400, "/", "linux", False),
        (400, "/", "darwin", False),
    ],
)
def test_a_long_path_is_named_as_the_reason_where_it_may_be_one(
    length: int, prefix: str, platform: str, said: bool
) -> None:
    reason = too_long(prefix + "x" * (length - len(prefix)), platform)
    assert (reason is not None) == said
    assert not said or f"{length} characters" in str(reason)


def test_a_server_cannot_name_a_file_like_a_device(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(b"x")
    kept = Store(tmp_path).add(tmp_path / "part", "NUL.safetensors", "0" * 64)
    assert kept.name == "NUL-file.000000000000.safetensors"
    require_file_name(kept.name, "win32")


TERM, BREAK = signal.SIGTERM, signal.SIGINT  # any number stands for SIGBREAK, which this system may lack


@pytest.mark.parametrize(
    ("known", "stops"),
    [
        ({"SIGTERM": TERM, "SIGBREAK": BREAK, "CTRL_BREAK_EVENT": 1}, [TERM, BREAK]),  # Windows
        ({"SIGTERM": TERM, "SIGHUP": signal.SIGINT, "SIGKILL": signal.SIGINT}, [TERM]),  # Linux, macOS
    ],
)
def test_a_command_is_stopped_by_the_signals_that_its_system_has(
    known: dict[str, object], stops: list[signal.Signals]
) -> None:
    assert stop_signals(known) == stops


def sources() -> list[tuple[Path, ast.Module]]:
    files = [*(ROOT / "pipelines").rglob("*.py"), *(ROOT / "nodes").rglob("*.py"), ROOT / "run.py"]
    return [(file, ast.parse(file.read_text(encoding="utf-8"))) for file in files]


def test_a_process_is_started_without_a_fork() -> None:
    """What the type checker for Windows cannot see: `.ci/run` runs it, and it knows os.fork and SIGKILL."""
    calls = [
        (file, call) for file, tree in sources() for call in ast.walk(tree) if isinstance(call, ast.Call)
    ]
    for file, call in calls:
        text = ast.unparse(call)
        given = {keyword.arg for keyword in call.keywords}
        assert not given & {"preexec_fn", "pass_fds", "close_fds"}, f"{file}: {text}"
        module, _, name = ast.unparse(call.func).rpartition(".")
        if name in ("ProcessPoolExecutor", "Pool", "Process") and module != "psutil":  # which starts none
            assert "get_context('spawn')" in text, f"{file}: {text}"


def test_files_are_replaced_in_one_place_that_knows_windows() -> None:
    """os.rename fails there where the target exists, and os.replace where somebody has it open."""
    found = {
        (file.relative_to(ROOT).as_posix(), ast.unparse(call.func))
        for file, tree in sources()
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and ast.unparse(call.func) in ("os.rename", "os.replace", "shutil.move")
    }
    assert found == {("pipelines/files/on_disk.py", "os.replace")}


def test_what_the_page_says_was_tested_exists() -> None:
    page = (ROOT / "docs" / "windows-macos.md").read_text(encoding="utf-8")
    named = re.findall(r"\[([^\]]+)\]\(\.\./(tests/[^)]+\.py)\)", page)
    assert len(named) >= 15
    for words, file in named:
        test = f"def test_{words.replace(' ', '_')}("
        assert test in (ROOT / file).read_text(encoding="utf-8"), f"{file}: no {test}"
