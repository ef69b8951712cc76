"""Runs a script in ComfyUI's own interpreter, where `comfy` works on the CPU and this pack is called `pack`.

python in_comfyui.py COMFYUI PACK SCRIPT
"""

from __future__ import annotations

import importlib.util
import runpy
import sys
from pathlib import Path


def main(comfyui: str, folder: str, script: str) -> None:
    sys.path.insert(0, comfyui)
    sys.argv = sys.argv[:1]  # ComfyUI reads its arguments when it is imported
    from comfy.cli_args import args

    args.cpu = True
    file = Path(folder) / "__init__.py"
    spec = importlib.util.spec_from_file_location("pack", file, submodule_search_locations=[folder])
    assert spec is not None
    assert spec.loader is not None
    pack = importlib.util.module_from_spec(spec)
    sys.modules["pack"] = pack
    spec.loader.exec_module(pack)
    runpy.run_path(script, run_name="__main__")


main(*sys.argv[1:])
