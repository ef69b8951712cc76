"""Imports torch when something of it is first used, for modules that a check of a request loads too.

A check reads headers and computes nothing, and importing torch takes longer than all of its work. Modules
whose functions are compiled import torch itself: a compiler looks at what their names are.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F  # noqa: N812  its usual name

__all__ = ["F", "torch"]


class _LateModule:
    """Stands for a module that is imported when one of its names is first asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self._name), name)


if not TYPE_CHECKING:
    torch, F = _LateModule("torch"), _LateModule("torch.nn.functional")
