"""The interpreter of a ComfyUI, where there is one: for what is measured inside of it."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["in_comfyui"]

BENCH = Path(__file__).resolve().parent


def in_comfyui(*arguments: str) -> Any:
    """What its interpreter prints as the last line, as JSON, with this package and bench importable; None
    where there is no ComfyUI.
    """
    home = Path(os.environ.get("COMFYUI_PATH", "~/ComfyUI")).expanduser()
    python = Path(os.environ.get("COMFYUI_PYTHON", home / "venv" / "bin" / "python"))
    if not (home / "main.py").is_file() or not python.exists():
        return None
    with tempfile.TemporaryDirectory() as linked:
        (Path(linked) / "wan_duet").symlink_to(BENCH.parent)
        ours = (linked, str(BENCH), str(BENCH.parent / "tests" / "streaming"))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(ours)}
        done = subprocess.run(
            [str(python), *arguments], cwd=home, env=environment, capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed in ComfyUI:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])
