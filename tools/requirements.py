"""Write requirements.txt, the file ComfyUI-Manager installs from, out of the dependencies in pyproject.toml.

python tools/requirements.py

`python -m tools.generated --check` says whether it is up to date.
"""

from __future__ import annotations

import sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]

# ComfyUI 0.25 has these in its own requirements.txt, or through them. Asking for them again could only make
# pip replace the host's torch. Not transformers: it is there, but two of its releases must not be.
BROUGHT_BY_COMFYUI = {
    "aiohttp",
    "av",
    "filelock",
    "numpy",
    "packaging",
    "pillow",
    "psutil",
    "pydantic",
    "safetensors",
    "sentencepiece",
    "tokenizers",
    "torch",
    "tqdm",
}

HEADER = """\
# What Wan Duet needs beyond what ComfyUI brings. Made from pyproject.toml by: python tools/requirements.py
"""


def render() -> str:
    """What requirements.txt should say."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [
        text
        for text in project["dependencies"]
        if canonicalize_name(Requirement(text).name) not in BROUGHT_BY_COMFYUI
    ]
    return HEADER + "".join(f"{text}\n" for text in needed)


if __name__ == "__main__":
    (ROOT / "requirements.txt").write_text(render(), encoding="utf-8", newline="\n")
