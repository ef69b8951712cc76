"""The second job of .ci/run: the newest Python of this machine, with the newest release of every dependency.

    python3 .ci/newest.py

A user with a fresh Python gets releases that the main job never sees, because they need a newer Python than
it has. Two parts, in a copy of the working tree under ~/.cache/wan-duet-ci; its environments stay:

    light   request, plan, remote: what needs no torch; always runs
    torch   the README's demo command, media and the command line; skipped aloud where the disk has no room

All of it runs even when a part fails. Exit code 0 when nothing failed, also when there is no newer Python.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wan-duet-ci"
KNOWN = ((3, 14), (3, 13), (3, 12))  # newest first
TORCH_BYTES = 12 * 2**30  # torch for CUDA, unpacked, beside what pip keeps while it installs

LIGHT = [
    "tests/request",
    "tests/plan",
    "tests/remote",
    "tests/headless",
    "tests/cli/test_keys_command.py",
    "tests/cli/test_remote_command.py",
    "tests/test_run.py",
]
NEEDS_TORCH = ["tests/plan/test_flops.py", "tests/request/test_distilled.py"]  # among them
# Asks for our own rules about each status. What a new httpx does, tests/remote/test_fault_matrix.py shows.
ONCE = ["tests/remote/test_http_answers.py"]
TORCH = [
    *NEEDS_TORCH,
    "tests/download",
    "tests/interpolation",
    "tests/vae",
    "tests/video",
    "tests/nodes/test_media.py",
    "tests/cli/test_commands.py",
    "tests/cli/test_model_files.py",
    "tests/generate/test_render.py",
]


def main() -> int:
    found = newest(os.environ, sys.version_info[:2])
    if found is None:
        this = "{}.{}".format(*sys.version_info[:2])
        print(
            f"== NOT RUN: there is no Python newer than {this} here, so nothing newer was tested.", flush=True
        )
        return 0
    version, python = found
    tree = CACHE / "{}.{}".format(*version)
    print(f"== Newest Python: {python}, in {tree}", flush=True)
    copy_tree(ROOT, tree)
    return max([light(python, tree), with_torch(python, tree)])


# ---- the interpreter


def newest(env: Mapping[str, str], than: tuple[int, int]) -> tuple[tuple[int, int], Path] | None:
    """The newest Python above `than` that starts and can make environments, with its version."""
    for version in KNOWN:
        if version > than:
            for python in candidates(env, version):
                if is_whole(python, version, env):
                    return version, python
    return None


def candidates(env: Mapping[str, str], version: tuple[int, int]) -> Iterable[Path]:
    """On the PATH, then what pyenv has: its shim is on the PATH also where the version is not switched on."""
    name = "python{}.{}".format(*version)
    if named := shutil.which(name, path=env.get("PATH", "")):
        yield Path(named)
    home = env.get("PYENV_ROOT") or os.path.join(env.get("HOME", ""), ".pyenv")
    yield from sorted(Path(home, "versions").glob(f"*/bin/{name}"), reverse=True)


def is_whole(python: Path, version: tuple[int, int], env: Mapping[str, str]) -> bool:
    code = "import ensurepip, ssl, sys, venv; print(*sys.version_info[:2])"
    try:
        done = subprocess.run(
            [python, "-c", code], env=dict(env), capture_output=True, text=True, check=False
        )
    except OSError:
        return False
    return done.returncode == 0 and done.stdout.split() == [str(part) for part in version]


# ---- the parts


def light(python: Path, tree: Path) -> int:
    venv = tree / ".light"
    inside = str(venv / "bin" / "python")
    if run([inside, "-c", "import pip"], tree, quiet=True):
        shutil.rmtree(venv, ignore_errors=True)
        if run([str(python), "-m", "venv", str(venv)], tree):
            return 1
    install = [inside, "-m", "pip", "install", "-q", "--upgrade", "--upgrade-strategy", "eager"]
    needed = [text for text in dependencies(python, tree) if not text.startswith("torch")]
    if run([*install, *needed], tree) or run(
        [inside, "-m", "pip", "install", "-q", "--no-deps", "-e", "."], tree
    ):
        return 1
    say_versions(inside, tree)
    skipped = [f"--ignore={file}" for file in (*NEEDS_TORCH, *ONCE)]
    together = ["--dist", "loadfile", "--no-loadscope-reorder"]  # as run.py does
    return run([inside, "-m", "pytest", "-q", "-n", "auto", *together, *LIGHT, *skipped], tree)


def with_torch(python: Path, tree: Path) -> int:
    venv = tree / ".venv"
    free = shutil.disk_usage(tree).free
    if not venv.exists() and free < TORCH_BYTES:
        print(
            f"== NOT RUN: torch needs {TORCH_BYTES >> 30} GiB on disk, {free >> 30} are free in {tree}",
            flush=True,
        )
        return 0
    demo = run([str(python), "run.py", "demo"], tree)
    inside = str(venv / "bin" / "python")
    made = run([str(python), "run.py", "test", "--version"], tree)
    # What was cached may be older than the newest releases. torch stays the one that run.py asks for.
    upgrade = [inside, "-m", "pip", "install", "-q", "--upgrade", "--upgrade-strategy", "eager"]
    needed = [text for text in dependencies(python, tree) if not text.startswith("torch")]
    newer = run([*upgrade, *needed, torch_of(inside, tree)], tree)
    say_versions(inside, tree)
    tests = run([str(python), "run.py", "test", "-q", *TORCH], tree)
    return max([demo, made, newer, tests])


def dependencies(python: Path, tree: Path) -> list[str]:
    """As pyproject.toml has them, with those of the tests. Read by the newest Python, for its tomllib."""
    code = (
        "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']\n"
        "print(*p['dependencies'], *p['optional-dependencies']['test'], sep='\\n')"
    )
    done = subprocess.run([python, "-c", code], cwd=tree, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def torch_of(inside: str, tree: Path) -> str:
    code = "import run; print(run.TORCH)"
    done = subprocess.run([inside, "-c", code], cwd=tree, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "torch"


def say_versions(inside: str, tree: Path) -> None:
    names = (
        "av",
        "numpy",
        "torch",
        "diffusers",
        "transformers",
        "pydantic",
        "aiohttp",
        "httpx",
        "Pillow",
        "pytest",
    )
    code = (
        "import importlib.metadata as m, sys\n"
        "have = {d.name.lower(): d.version for d in m.distributions()}\n"
        "print('== with Python', sys.version.split()[0], *(f'{n} {have[n.lower()]}' for n in sys.argv[1:] "
        "if n.lower() in have), sep=', ')"
    )
    run([inside, "-c", code, *names], tree, quiet=True)


def copy_tree(root: Path, tree: Path) -> None:
    """What git knows or does not ignore, over what was copied before; only the environments stay."""
    tree.mkdir(parents=True, exist_ok=True)
    for old in tree.iterdir():
        if old.name not in (".venv", ".light"):
            shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=root, capture_output=True, check=True).stdout.split(b"\0")
    for name in filter(None, names):
        source, target = root / os.fsdecode(name), tree / os.fsdecode(name)
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def run(command: list[str], tree: Path, *, quiet: bool = False) -> int:
    """The exit code of a command, 1 for any that is not 0."""
    if not quiet:
        print(f"\n== {subprocess.list2cmdline(command)}", flush=True)
    # No ComfyUI: its own Python is another one, and the main job tests with it.
    env = {**os.environ, "COMFYUI_PATH": ""}
    try:
        failed = subprocess.run(command, cwd=tree, check=False, env=env).returncode != 0
    except OSError:
        failed = True
    if failed and not quiet:
        print(f"== FAILED: {subprocess.list2cmdline(command)}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
