"""The two commands of the README, on any machine with Python 3.10 or newer and nothing else.

    python run.py demo [--prompt TEXT] [--comfyui PATH] [-o OUT]
    python run.py test [pytest arguments]

Both make `.venv` beside this file, install into it what they need, and go on inside it. Nothing is installed
anywhere else, least of all into a ComfyUI. Only the standard library is used here, and only syntax that older
Pythons can read, so that they can be told they are too old.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036 - this file may well be started with an older one
    sys.exit(
        "Wan Duet needs Python 3.10 or newer; this one is {}.{} ({}).\n"
        "Start it with a newer one, such as: python3.12 run.py demo".format(
            *sys.version_info[:2], sys.executable
        )
    )

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = "wan-duet.json"  # in .venv: says that we made it, and what it is ready for

# One exact version, so that everybody's first run gets what was tested. Left to choose, pip takes the newest,
# which on Linux also means the newest CUDA, and with it a driver that many machines do not have yet.
TORCH = "torch==2.13.0"

# On Linux .venv and the 2.7 GB of wheels beside it were measured; the rest is for the cache of pip.
ROOM = "11 GB on Linux, of which 5.5 GB stay in .venv; about 2 GB elsewhere"

# Tests of one file stay together: what a file shares, a running ComfyUI above all, is then made once.
# tests/conftest.py says which files begin.
PYTEST = ["-m", "pytest", "-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder"]

EXTRAS = {"demo": [], "test": ["dev", "test"]}


def main(argv: list[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # a Windows console may lack a letter of the path
    args, pytest_args = parse(argv)
    try:
        python = prepare(VENV, EXTRAS[args.command])
        if args.command == "test":
            return hand_over([python, *PYTEST, *pytest_args], cwd=ROOT)
        return hand_over([python, "-m", "wan_duet.pipelines.cli.demo", *demo_arguments(args)], cwd=None)
    except SetupError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130


class SetupError(Exception):
    """The environment could not be made; the message says what to do."""


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The command with its options, checked before anything slow, and what is meant for pytest."""
    parser = argparse.ArgumentParser(prog="run.py", description="Try Wan Duet, or test it.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="demo|test")
    demo = commands.add_parser("demo", help="make a video from a prompt")
    demo.add_argument("--prompt", metavar="TEXT", help="what to show (default: the workflow's own prompt)")
    demo.add_argument("--comfyui", metavar="PATH", help="a ComfyUI folder to run in (default: $COMFYUI_PATH)")
    demo.add_argument("-o", "--output", metavar="OUT", help="the MP4 to write (default: wan-duet-demo.mp4)")
    commands.add_parser("test", help="run all tests; everything after `test` goes to pytest")
    if argv[:1] == ["test"]:
        return argparse.Namespace(command="test"), argv[1:]
    return parser.parse_args(argv), []


def demo_arguments(args: argparse.Namespace) -> list[str]:
    """The options given, joined with `=` so that a prompt may begin with a dash."""
    given = {"--prompt": args.prompt, "--comfyui": args.comfyui, "--output": args.output}
    return [f"{option}={value}" for option, value in given.items() if value is not None]


# ---- the environment


def prepare(venv: Path, extras: list[str]) -> str:
    """The interpreter of a `.venv` that has everything for `extras`; makes or mends it where needed."""
    try:
        return prepared(venv, extras)
    except OSError as error:  # a read-only clone, a folder of somebody else, a full disk
        raise SetupError(
            f"Cannot make {venv}: {error.strerror or error}. "
            f"Start it in a clone on a writable disk with room ({ROOM})."
        ) from error


def prepared(venv: Path, extras: list[str]) -> str:
    stamp = venv / STAMP
    if is_ready(stamp, extras) and works(venv):
        return str(python_of(venv))
    if sys.platform == "darwin" and platform.machine() == "x86_64":
        raise SetupError(f"There is no {TORCH} for Macs with an Intel processor; Apple silicon works.")
    make(venv)
    had = read_stamp(stamp).get("extras", [])
    wanted = sorted({*had, *extras})  # a `demo` after a `test` must not leave the tests without theirs
    stamp.write_text(json.dumps({"made_by": "run.py"}), encoding="utf-8")  # an install cut short is not ready
    target = f"{ROOT}[{','.join(wanted)}]" if wanted else str(ROOT)
    python = str(python_of(venv))
    step(f"Installing {TORCH} (once; a large download)", [python, "-m", "pip", "install", TORCH])
    what = f"Wan Duet with its extras {' and '.join(wanted)}" if wanted else "Wan Duet"
    step(f"Installing {what}", [python, "-m", "pip", "install", TORCH, "-e", target])
    stamp.write_text(json.dumps({"made_by": "run.py", "key": key(), "extras": wanted}), encoding="utf-8")
    return python


def is_ready(stamp: Path, extras: list[str]) -> bool:
    found = read_stamp(stamp)
    return found.get("key") == key() and set(extras) <= set(found.get("extras", []))


def read_stamp(stamp: Path) -> dict:
    try:
        found = json.loads(stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def key() -> str:
    """Changes with what would be installed: the dependencies, torch, the Python, the place of the folder."""
    parts = [(ROOT / "pyproject.toml").read_bytes(), TORCH.encode(), sys.version.encode(), os.fsencode(ROOT)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def make(venv: Path) -> None:
    """A `.venv` of this Python with a pip that runs: kept if it is one, made anew if it is half of one."""
    if works(venv):
        return
    if venv.is_symlink():
        raise SetupError(
            f"{venv} is a link to {os.readlink(venv)}, where no environment of this Python works. "
            "Remove the link and start again."
        )
    if venv.exists():
        if not (venv / STAMP).exists():
            raise SetupError(f"{venv} is in the way: run.py did not make it. Move it and start again.")
        print("Removing a .venv that is incomplete or of another Python", flush=True)
        shutil.rmtree(venv)
    venv.mkdir()
    (venv / STAMP).write_text(json.dumps({"made_by": "run.py"}), encoding="utf-8")
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if find_spec("venv") and find_spec("ensurepip"):
        hint = f"\nThe lines above say why. A full disk is the usual reason: it takes {ROOM}."
    else:
        hint = (
            f"\n{sys.executable} cannot make environments. On Debian: apt install python{version}-venv. "
            "The Python inside a portable ComfyUI never can: use another one."
        )
    step(f"Making .venv with Python {version}", [sys.executable, "-m", "venv", str(venv)], hint=hint)


def works(venv: Path) -> bool:
    """Whether the environment's Python starts, is of this version and has pip."""
    code = "import pip, sys; print('%d.%d' % sys.version_info[:2])"
    try:
        command = [str(python_of(venv)), "-c", code]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return False
    return answer.returncode == 0 and answer.stdout.strip() == "{}.{}".format(*sys.version_info[:2])


def python_of(venv: Path) -> Path:
    return venv / "Scripts" / "python.exe" if os.name == "nt" else venv / "bin" / "python"


def step(what: str, command: list[str], hint: str = "") -> None:
    """Do one thing: one line while it goes well, all it printed when it does not."""
    print(f"{what} ...", end="", flush=True)
    began = time.monotonic()
    env = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_USER": "0"}
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    done = subprocess.run(command, check=False, env=env, **pipe)
    print(f" {time.monotonic() - began:.0f} s", flush=True)
    if done.returncode != 0:
        raise SetupError(f"{done.stdout.rstrip()}\n\nThis failed: {subprocess.list2cmdline(command)}{hint}")


# ---- the command itself


def hand_over(command: list[str], cwd: "Path | None") -> int:
    """Become the command, so that exit code, Ctrl-C and a kill are its own; Windows can only wait for it."""
    env = {**os.environ, "WAN_DUET_STARTED_WITH": sys.executable}  # may well be the Python that runs ComfyUI
    if cwd is not None:
        os.chdir(cwd)
    if os.name != "nt":
        sys.stdout.flush()
        os.execve(command[0], command, env)  # noqa: S606 - no shell is the point
    child = subprocess.Popen(command, env=env)
    try:
        return child.wait()
    except KeyboardInterrupt:
        return child.wait()  # the console sent Ctrl-C to it too: it is cleaning up


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
