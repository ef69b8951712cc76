"""Main memory of this process that is no mapped file, as only Linux tells it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

__all__ = ["anonymous_bytes", "only_on_linux"]

only_on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells anonymous memory")


def anonymous_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon:"))
