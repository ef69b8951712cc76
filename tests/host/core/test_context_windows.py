"""Our context windows are those of ComfyUI: one network gives one result in both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_the_windows_of_one_network_give_one_result(told_by: Callable[[str], Any]) -> None:
    apart = told_by("context_windows.py")
    assert len(apart) == 4 * 4 * 3 * 2 + 2 * 4 + 3
    assert {name: value for name, value in apart.items() if value > 1e-5} == {}
