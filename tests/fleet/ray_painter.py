"""What the slots of `test_ray` paint with. Ray imports it in processes of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .batches import SETTINGS
from .process_painter import SlowPainter

__all__ = ["painter_in_slot"]


def painter_in_slot(wait: Path) -> tuple[SlowPainter, dict[str, Any]]:
    return SlowPainter(wait=wait), SETTINGS
