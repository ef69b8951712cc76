"""Which ComfyUI and which Python are meant, and what is said when they cannot run the pack."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from wan_duet.pipelines.errors import HostError
from wan_duet.pipelines.headless.host import examine, find_comfyui, find_python
from wan_duet.pipelines.version import REQUIRED_COMFYUI


def make_comfyui(path: Path, version: str = REQUIRED_COMFYUI, requirements: str = "") -> Path:
    (path / "comfy").mkdir(parents=True)
    (path / "custom_nodes").mkdir()
    (path / "main.py").touch()
    (path / "comfyui_version.py").write_text(f'__version__ = "{version}"\n', encoding="utf-8")
    (path / "requirements.txt").write_text(requirements, encoding="utf-8")
    return path


def make_pack(path: Path, requirements: str = "") -> Path:
    path.mkdir(parents=True)
    (path / "requirements.txt").write_text(requirements, encoding="utf-8")
    return path


def touch(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    return file


# ---- which ComfyUI


def test_the_argument_comes_before_the_environment_and_that_before_the_place(tmp_path: Path) -> None:
    named, environment, around = (
        make_comfyui(tmp_path / name) for name in ("named", "environment", "around")
    )
    pack = make_pack(around / "custom_nodes" / "Wan Duet 2.2-main")
    environ = {"COMFYUI_PATH": str(environment)}
    found = [
        find_comfyui(named, pack=pack, environ=environ),
        find_comfyui(None, pack=pack, environ=environ),
        find_comfyui(None, pack=pack, environ={}),
    ]
    assert [(f.path, f.named) for f in found if f] == [(named, True), (environment, True), (around, False)]


def test_no_comfyui_is_no_error(tmp_path: Path) -> None:
    assert find_comfyui(None, pack=make_pack(tmp_path / "custom_nodes" / "wan-duet"), environ={}) is None


@pytest.mark.parametrize("source", ["--comfyui", "$COMFYUI_PATH"])
def test_a_named_folder_that_is_no_comfyui_is_refused_by_name(tmp_path: Path, source: str) -> None:
    named, environ = (tmp_path, {}) if source == "--comfyui" else (None, {"COMFYUI_PATH": str(tmp_path)})
    with pytest.raises(HostError, match="is not a ComfyUI folder") as caught:
        find_comfyui(named, environ=environ)
    assert str(caught.value).startswith(source)


# ---- which Python


@pytest.mark.parametrize("place", ["venv/bin/python", ".venv/bin/python", "venv/Scripts/python.exe"])
def test_the_environment_in_the_folder_is_used(tmp_path: Path, place: str) -> None:
    comfyui = make_comfyui(tmp_path / "ComfyUI")
    python = touch(comfyui / place)
    assert find_python(comfyui, environ={}) == python


def test_the_windows_portable_is_found_beside_the_folder(tmp_path: Path) -> None:
    comfyui = make_comfyui(tmp_path / "ComfyUI")
    python = touch(tmp_path / "python_embeded" / "python.exe")
    assert find_python(comfyui, environ={}) == python


def test_a_named_python_comes_first_and_must_exist(tmp_path: Path) -> None:
    comfyui = make_comfyui(tmp_path / "ComfyUI")
    touch(comfyui / "venv" / "bin" / "python")
    named = touch(tmp_path / "other" / "python")
    assert find_python(comfyui, environ={"COMFYUI_PYTHON": str(named)}) == named
    with pytest.raises(HostError, match="COMFYUI_PYTHON"):
        find_python(comfyui, environ={"COMFYUI_PYTHON": str(tmp_path / "nowhere")})


def test_the_python_that_started_us_is_used_only_if_it_can_run_comfyui(tmp_path: Path) -> None:
    able = make_comfyui(tmp_path / "able", requirements="pytest\n")
    unable = make_comfyui(tmp_path / "unable", requirements="no-such-distribution>=1\n")
    environ = {"WAN_DUET_STARTED_WITH": sys.executable}
    assert find_python(able, environ=environ) == Path(sys.executable)
    with pytest.raises(HostError, match="Set COMFYUI_PYTHON"):
        find_python(unable, environ=environ)


# ---- can they run the pack


def test_a_host_that_has_everything_is_described(tmp_path: Path) -> None:
    comfyui = make_comfyui(
        tmp_path / "ComfyUI", requirements="pytest\n\n#non essential dependencies:\nnot-there\n"
    )
    pack = make_pack(comfyui / "custom_nodes" / "Wan Duet 2.2-main", "pytest>=1\n")
    host = examine(comfyui, Path(sys.executable), pack=pack, cpu=True)
    assert (host.cpu, host.pack_name) == (True, "Wan Duet 2.2-main")
    elsewhere = make_pack(tmp_path / "src" / "wan-duet", "pytest>=1  # a reason\n")
    assert examine(comfyui, Path(sys.executable), pack=elsewhere, cpu=True).pack_name is None


def test_without_a_word_from_the_caller_torch_decides_about_the_cpu(tmp_path: Path) -> None:
    comfyui = make_comfyui(
        tmp_path / "ComfyUI", requirements="pytest\n"
    )  # no torch: nothing to run on but the CPU
    assert examine(comfyui, Path(sys.executable), pack=make_pack(tmp_path / "pack")).cpu is True


def test_what_is_missing_is_said_with_the_command_that_adds_it(tmp_path: Path) -> None:
    comfyui = make_comfyui(tmp_path / "Comfy UI")
    pack = make_pack(tmp_path / "my pack", "no-such-distribution>=1\npytest>=9999\n")
    with pytest.raises(HostError) as caught:
        examine(comfyui, Path(sys.executable), pack=pack, cpu=True)
    message = str(caught.value)
    assert "no-such-distribution>=1 (not installed)" in message
    assert f"pytest>=9999 ({pytest.__version__} is installed)" in message
    assert message.endswith(f'-m pip install -r "{pack / "requirements.txt"}"')
    assert sys.executable in message


def test_a_python_without_comfyuis_own_requirements_is_told_apart(tmp_path: Path) -> None:
    comfyui = make_comfyui(tmp_path / "ComfyUI", requirements="no-such-distribution\n")
    with pytest.raises(HostError, match=r"cannot run the ComfyUI.*lacks no-such-distribution"):
        examine(comfyui, Path(sys.executable), pack=make_pack(tmp_path / "pack"), cpu=True)


@pytest.mark.parametrize("version", ["0.24.9", "0.3.75"])
def test_an_old_comfyui_is_refused(tmp_path: Path, version: str) -> None:
    comfyui = make_comfyui(tmp_path / "ComfyUI", version=version)
    with pytest.raises(HostError, match=f"is {version}; update it to {REQUIRED_COMFYUI}"):
        examine(comfyui, Path(sys.executable), pack=make_pack(tmp_path / "pack"), cpu=True)


def test_a_python_that_does_not_start_is_named(tmp_path: Path) -> None:
    comfyui = make_comfyui(tmp_path / "ComfyUI")
    broken = touch(comfyui / "venv" / "bin" / "python")
    with pytest.raises(HostError, match="could not be asked") as caught:
        examine(comfyui, pack=make_pack(tmp_path / "pack"), cpu=True)
    assert str(broken) in str(caught.value)


def answers_after(seconds: float) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A Python that would take so long."""

    def run(command: list[str], *, timeout: float, **more: object) -> subprocess.CompletedProcess[str]:
        if timeout < seconds:
            raise subprocess.TimeoutExpired(command, timeout)
        return subprocess.CompletedProcess(command, 0, '{"installed": {}, "accelerator": false}', "")

    return run


def test_a_python_that_imports_torch_from_a_slow_disk_is_waited_for(tmp_path: Path) -> None:
    comfyui, pack = make_comfyui(tmp_path / "ComfyUI"), make_pack(tmp_path / "pack")
    assert examine(comfyui, Path(sys.executable), pack=pack, run=answers_after(120.0)).cpu


def test_a_python_that_never_answers_is_named(tmp_path: Path) -> None:
    comfyui, pack = make_comfyui(tmp_path / "ComfyUI"), make_pack(tmp_path / "pack")
    with pytest.raises(HostError, match=r"could not be asked.*timed out"):
        examine(comfyui, Path(sys.executable), pack=pack, run=answers_after(1800.0))
