"""Promises of run.py that need no installation to be seen."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from wan_duet.pipelines.cli import demo

RUN = Path(__file__).resolve().parents[1] / "run.py"

spec = importlib.util.spec_from_file_location("run", RUN)
assert spec is not None
assert spec.loader is not None
run = importlib.util.module_from_spec(spec)
spec.loader.exec_module(run)


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(RUN), *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [(), ("lunch",), ("demo", "--promt", "x"), ("demo", "--comfyui")])
def test_a_wrong_command_is_refused_before_anything_is_made(arguments: tuple[str, ...]) -> None:
    done = start(*arguments)
    assert done.returncode == 2
    assert "usage:" in done.stderr
    assert done.stdout == ""


def test_an_older_python_can_read_the_file_to_be_told_it_is_too_old() -> None:
    ast.parse(RUN.read_text(encoding="utf-8"), feature_version=(3, 7))


def test_everything_after_test_goes_to_pytest() -> None:
    args, rest = run.parse(["test", "-k", "plan and not host", "--help", "-o", "x=y"])
    assert args.command == "test"
    assert rest == ["-k", "plan and not host", "--help", "-o", "x=y"]


def test_the_demo_gets_its_options_even_when_they_begin_with_a_dash() -> None:
    args, rest = run.parse(["demo", "--prompt=-3 degrees, snow", "-o", "out dir/a.mp4"])
    passed = demo.parser().parse_args(run.demo_arguments(args))
    assert rest == []
    assert (passed.prompt, passed.comfyui, passed.output) == ("-3 degrees, snow", None, "out dir/a.mp4")


def test_both_parsers_know_the_same_options() -> None:
    args, _ = run.parse(["demo"])
    assert set(vars(args)) - {"command"} == set(vars(demo.parser().parse_args([])))


def test_a_stamp_covers_what_was_installed_and_no_more(tmp_path: Path) -> None:
    stamp = tmp_path / run.STAMP
    assert not run.is_ready(stamp, [])
    stamp.write_text(json.dumps({"key": run.key(), "extras": []}), encoding="utf-8")
    assert run.is_ready(stamp, [])
    assert not run.is_ready(stamp, ["test"])
    stamp.write_text(json.dumps({"key": run.key(), "extras": ["dev", "test"]}), encoding="utf-8")
    assert run.is_ready(stamp, [])
    assert run.is_ready(stamp, ["dev", "test"])


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"made_by": "run.py"}', '{"key": "of another day", "extras": []}']
)
def test_an_install_cut_short_or_outdated_is_done_again(tmp_path: Path, text: str) -> None:
    stamp = tmp_path / run.STAMP
    stamp.write_text(text, encoding="utf-8")
    assert not run.is_ready(stamp, [])


def test_a_half_made_environment_is_made_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    venv = tmp_path / "with space" / ".venv"
    (venv / "lib").mkdir(parents=True)
    (venv / "lib" / "leftover").touch()
    (venv / run.STAMP).write_text("{}", encoding="utf-8")
    run.make(venv)
    assert run.works(venv)
    assert not (venv / "lib" / "leftover").exists()
    assert "incomplete" in capsys.readouterr().out
    run.make(venv)
    assert capsys.readouterr().out == ""


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "precious").touch()
    with pytest.raises(run.SetupError, match="in the way"):
        run.make(tmp_path / ".venv")
    assert (tmp_path / ".venv" / "precious").exists()


def clone(folder: Path) -> Path:
    """A folder with what run.py needs there before it installs anything."""
    folder.mkdir()
    for name in ("run.py", "pyproject.toml"):
        (folder / name).write_bytes((RUN.parent / name).read_bytes())
    return folder


def refusal(folder: Path) -> str:
    """What the README's command says, in the one line after which it ends."""
    command = [sys.executable, str(folder / "run.py"), "demo"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    return line


def test_a_link_that_leads_nowhere_is_named_with_what_to_do(tmp_path: Path) -> None:
    folder = clone(tmp_path / "clone")
    try:
        (folder / ".venv").symlink_to(tmp_path / "gone")
    except OSError:
        pytest.skip("this system lets nobody make a link")
    said = refusal(folder)
    assert str(folder / ".venv") in said
    assert str(tmp_path / "gone") in said
    assert "Remove the link" in said
    assert (folder / ".venv").is_symlink()


def test_a_link_to_a_folder_without_an_environment_is_left_alone(tmp_path: Path) -> None:
    folder = clone(tmp_path / "clone")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / run.STAMP).write_text("{}", encoding="utf-8")
    try:
        (folder / ".venv").symlink_to(tmp_path / "elsewhere")
    except OSError:
        pytest.skip("this system lets nobody make a link")
    assert "Remove the link" in refusal(folder)
    assert (tmp_path / "elsewhere" / run.STAMP).exists()


def test_a_file_in_the_place_of_the_environment_is_left_alone(tmp_path: Path) -> None:
    folder = clone(tmp_path / "clone")
    (folder / ".venv").write_text("precious", encoding="utf-8")
    assert "in the way" in refusal(folder)
    assert (folder / ".venv").read_text(encoding="utf-8") == "precious"


@pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="needs a folder in which root may write nothing either"
)
def test_a_folder_that_cannot_be_written_is_named_with_what_works() -> None:
    with pytest.raises(run.SetupError, match=r"Cannot make /proc/\.venv: .*writable disk with room"):
        run.prepare(Path("/proc/.venv"), [])


@pytest.mark.parametrize(("lacking", "says"), [("", "full disk"), ("ensurepip", "cannot make environments")])
def test_an_environment_that_cannot_be_made_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: str, says: str
) -> None:
    if lacking:
        monkeypatch.setitem(sys.modules, lacking, None)
    # A program that knows no `-m venv` stands in for a Python that fails while it makes one.
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(run.SetupError, match=says):
        run.make(tmp_path / ".venv")


def test_a_failed_step_shows_what_it_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(run.SetupError, match="no such package"):
        run.step("Installing", [sys.executable, "-c", "print('no such package'); raise SystemExit(1)"])
    assert "no such package" not in capsys.readouterr().out


@pytest.mark.parametrize("code", [0, 1, 5])
def test_exit_codes_are_handed_on(code: int) -> None:
    child = [sys.executable, "-c", f"raise SystemExit({code})"]
    program = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('run', {str(RUN)!r})\n"
        "run = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(run)\n"
        f"sys.exit(run.hand_over({child!r}, None))\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == code
