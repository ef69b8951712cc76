"""What pyproject.toml states once and the running pack has to know: its version and the ComfyUI it needs.

Not `importlib.metadata`: in ComfyUI the pack is a folder in `custom_nodes`, not an installed distribution.
"""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["PACK", "REQUIRED_COMFYUI", "VERSION"]

PACK = Path(__file__).resolve().parents[1]  # the pack's folder: the repository root, or what a wheel made


def _stated(key: str) -> str:
    file = PACK / "pyproject.toml"  # read with a pattern, because tomllib came with Python 3.11
    found = re.search(rf'^{key} = "([^"]+)"', file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if found is None:
        raise RuntimeError(f'{file} has no line `{key} = "..."`; install the pack again.')
    return found.group(1)


VERSION = _stated("version")
REQUIRED_COMFYUI = _stated("requires-comfyui").removeprefix(
    ">="
)  # the oldest whose node interface we can use
