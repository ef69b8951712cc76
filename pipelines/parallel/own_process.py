"""The script of a process that ComfyUI starts for several devices. No module of ComfyUI is imported in it.

The pack lies in a folder of any name. Here, and in the ranks, which run this file before anything else, it is
the package `wan_duet`.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

_NAME = "wan_duet"

_IN_RANK = "__mp_main__"  # the name under which a spawned process runs the script of its parent

if __name__ in ("__main__", _IN_RANK) and _NAME not in sys.modules:
    root = Path(__file__).resolve().parents[2]
    spec = importlib.util.spec_from_file_location(
        _NAME, root / "__init__.py", submodule_search_locations=[str(root)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{root}: no package")
    sys.modules[_NAME] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)

if __name__ == "__main__":
    sys.exit(importlib.import_module(f"{_NAME}.pipelines.generate.gpu_job").main())
