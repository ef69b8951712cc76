"""Reports which packages of requirements.txt are missing in this Python, and the command to install them."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from ..pipelines.errors import PackageError

__all__ = ["explaining_missing_packages", "missing_packages", "what_is_missing"]

_REQUIREMENTS = Path(__file__).resolve().parents[1] / "requirements.txt"
_NAME = re.compile(r"^[A-Za-z][\w.-]*", re.MULTILINE)  # comments begin with #
_Node = TypeVar("_Node", bound=type)


def missing_packages(find: Callable[[str], object] = find_spec) -> list[str]:
    """Return the packages of requirements.txt that `find` does not find. Imports none."""
    names = _NAME.findall(_REQUIREMENTS.read_text(encoding="utf-8"))
    return [name for name in names if find(name.replace("-", "_")) is None]


def what_is_missing(missing: list[str]) -> str:
    return (
        f"Wan Duet needs {', '.join(missing)}, which this Python does not have. Install it with this "
        f'command, and start ComfyUI again: "{sys.executable}" -m pip install -r "{_REQUIREMENTS}"'
    )


def explaining_missing_packages(
    node: _Node, find_missing: Callable[[], list[str]] = missing_packages
) -> _Node:
    """Wrap `node`, so that a failed import reports the command that installs what is missing."""
    execute = node.execute.__func__  # type: ignore[attr-defined]

    def explained(error: ImportError) -> Exception:
        missing = find_missing()
        return PackageError(what_is_missing(missing)) if missing else error

    @wraps(execute)
    def run(*args: Any, **inputs: Any) -> Any:
        try:
            return execute(*args, **inputs)
        except ImportError as error:
            raise explained(error) from error

    @wraps(execute)
    async def run_async(*args: Any, **inputs: Any) -> Any:
        try:
            return await execute(*args, **inputs)
        except ImportError as error:
            raise explained(error) from error

    node.execute = classmethod(run_async if inspect.iscoroutinefunction(execute) else run)  # type: ignore[attr-defined]
    return node
