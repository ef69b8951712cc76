"""Finds a ComfyUI and its Python, and checks that they can run this pack.

Installs and changes nothing there. Errors name what is missing and the command that adds it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from packaging.requirements import Requirement
from packaging.version import Version

from ..errors import HostError
from ..version import PACK, REQUIRED_COMFYUI

__all__ = ["ComfyUIFolder", "Host", "examine", "find_comfyui", "find_python", "without_our_python"]

_Run: TypeAlias = "Callable[..., subprocess.CompletedProcess[str]]"
_ANSWER_S = 300.0  # timeout for starting Python and importing torch, also from a slow disk


@dataclass(frozen=True)
class ComfyUIFolder:
    """A ComfyUI folder. named: the user named it; else it was only found."""

    path: Path
    named: bool


@dataclass(frozen=True)
class Host:
    """A ComfyUI that can run this pack.

    cpu:       it needs the flag --cpu.
    pack_name: the name of the pack in its `custom_nodes`. None if the pack is not there.
    """

    path: Path
    python: Path
    pack: Path
    cpu: bool
    pack_name: str | None


def find_comfyui(
    comfyui: str | Path | None = None,
    *,
    pack: Path = PACK,
    environ: Mapping[str, str] = os.environ,
) -> ComfyUIFolder | None:
    """Return the ComfyUI of the argument, of $COMFYUI_PATH, or the one that has the pack in `custom_nodes`.

    Raises HostError when one of the first two is not a ComfyUI folder.
    """
    for source, value in (("--comfyui", comfyui), ("$COMFYUI_PATH", environ.get("COMFYUI_PATH"))):
        if value:
            path = Path(value).expanduser().absolute()
            if not _is_comfyui(path):
                raise HostError(
                    f"{source}: {path} is not a ComfyUI folder (no main.py beside a folder comfy)."
                )
            return ComfyUIFolder(path, named=True)
    around = pack.parent.parent
    if pack.parent.name == "custom_nodes" and _is_comfyui(around):
        return ComfyUIFolder(around, named=False)
    return None


def find_python(path: Path, *, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the Python that runs the ComfyUI at `path`.

    Looks at $COMFYUI_PYTHON, at an environment in the folder, at the Python of the Windows portable version,
    and at the Python that started this process. Raises HostError when none of them fits.
    """
    named = environ.get("COMFYUI_PYTHON")
    if named:
        if not Path(named).expanduser().is_file():
            raise HostError(f"$COMFYUI_PYTHON: there is no file {named}.")
        return Path(named).expanduser().absolute()
    for folder in (path / "venv", path / ".venv"):
        for python in (folder / "bin" / "python", folder / "Scripts" / "python.exe"):
            if python.is_file():
                return python  # not resolved: a link out of the environment would lose the environment
    portable = path.parent / "python_embeded" / "python.exe"  # ComfyUI's own spelling
    if portable.is_file():
        return portable
    ours = Path(environ.get("WAN_DUET_STARTED_WITH") or sys.executable)
    needed = _own_requirements(path)
    installed = _ask(ours, [r.name for r in needed]).installed
    if any(installed[requirement.name] is None for requirement in needed):
        raise HostError(
            f"No Python found that runs the ComfyUI in {path}: it has no venv or .venv, and {ours} lacks its "
            "requirements. Set COMFYUI_PYTHON to the python of that ComfyUI."
        )
    return ours


def examine(
    path: Path,
    python: Path | None = None,
    *,
    pack: Path = PACK,
    cpu: bool | None = None,
    run: _Run = subprocess.run,
) -> Host:
    """Check that the ComfyUI at `path` can run the pack. Raises HostError that names what is missing.

    cpu: None uses the CPU if the host's torch finds no other device.
    run: starts a process, as subprocess.run.
    """
    _check_version(path)
    python = find_python(path) if python is None else python
    ours = _requirements_in(pack / "requirements.txt")
    answer = _ask(python, [r.name for r in [*ours, *_own_requirements(path)]], run)
    absent = [r.name for r in _own_requirements(path) if answer.installed[r.name] is None]
    if absent:
        file = path / "requirements.txt"
        raise HostError(
            f"{python} cannot run the ComfyUI in {path}: it lacks {', '.join(absent)}. "
            f"Install its requirements:\n    {_pip(python, file)}\n"
            "or set COMFYUI_PYTHON to the python that has them."
        )
    lacking = [
        text for requirement in ours if (text := _lack(requirement, answer.installed[requirement.name]))
    ]
    if lacking:
        raise HostError(
            f"The ComfyUI in {path} lacks what Wan Duet needs: {', '.join(lacking)}. "
            f"Add it to its Python:\n    {_pip(python, pack / 'requirements.txt')}"
        )
    cpu = not answer.accelerator if cpu is None else cpu
    return Host(path, python, pack, cpu, _name_in_custom_nodes(path, pack))


def without_our_python(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment without the variables that would make another Python use our packages."""
    ties = {"VIRTUAL_ENV", "PYTHONHOME", "__PYVENV_LAUNCHER__", "WAN_DUET_STARTED_WITH"}
    return {name: value for name, value in environ.items() if name not in ties}


def _is_comfyui(path: Path) -> bool:
    return (path / "main.py").is_file() and (path / "comfy").is_dir()


def _check_version(path: Path) -> None:
    file = path / "comfyui_version.py"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    found = re.search(r'__version__ = "([^"]+)"', text)
    if found is None:
        raise HostError(
            f"The ComfyUI in {path} does not say its version; Wan Duet needs {REQUIRED_COMFYUI} or newer."
        )
    if Version(found.group(1)) < Version(REQUIRED_COMFYUI):
        raise HostError(
            f"The ComfyUI in {path} is {found.group(1)}; update it to {REQUIRED_COMFYUI} or newer."
        )


def _name_in_custom_nodes(path: Path, pack: Path) -> str | None:
    folder = path / "custom_nodes"
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    return next((entry.name for entry in entries if entry.resolve() == pack.resolve()), None)


def _requirements_in(file: Path, until: str = r"\Z") -> list[Requirement]:
    """Return the requirements of a file that apply here, up to the line that matches `until`."""
    text = re.split(until, file.read_text(encoding="utf-8"), maxsplit=1, flags=re.MULTILINE)[0]
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines())
    # A line that starts with - is an option of pip.
    every = (Requirement(line) for line in lines if line and not line.startswith("-"))
    return [item for item in every if item.marker is None or item.marker.evaluate()]


def _own_requirements(path: Path) -> list[Requirement]:
    """Return the requirements that ComfyUI cannot start without: those above "non essential"."""
    return _requirements_in(path / "requirements.txt", until=r"^#\s*non essential")


def _lack(requirement: Requirement, installed: str | None) -> str:
    """Describe a requirement that is not met. Empty if it is met."""
    if installed is None:
        return f"{requirement} (not installed)"
    if not requirement.specifier.contains(installed, prereleases=True):
        return f"{requirement} ({installed} is installed)"
    return ""


def _pip(python: Path, file: Path) -> str:
    return subprocess.list2cmdline([str(python), "-m", "pip", "install", "-r", str(file)])


@dataclass(frozen=True)
class _PythonFacts:
    installed: dict[str, str | None]  # distribution -> version
    accelerator: bool


_QUESTION = """
import importlib.metadata as metadata, json, sys
def version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
installed = {name: version(name) for name in sys.argv[1:]}
accelerator = False
if installed.get("torch"):
    import torch
    xpu = getattr(torch, "xpu", None)
    accelerator = torch.cuda.is_available() or torch.backends.mps.is_available()
    accelerator = accelerator or bool(xpu and xpu.is_available())
print(json.dumps({"installed": installed, "accelerator": accelerator}))
"""


def _ask(python: Path, names: list[str], run: _Run = subprocess.run) -> _PythonFacts:
    """Run `python` to find the versions of the distributions `names`, and whether torch has a device."""
    command = [str(python), "-c", _QUESTION, *names]
    try:
        done = run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_ANSWER_S,
            env=without_our_python(),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"{python} could not be asked what it has installed: {error}") from error
    if done.returncode != 0:
        raise HostError(f"{python} could not be asked what it has installed:\n{done.stderr.strip()}")
    answer = json.loads(done.stdout.splitlines()[-1])  # the last line: torch may print warnings before it
    return _PythonFacts(answer["installed"], answer["accelerator"])
