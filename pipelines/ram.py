"""Main memory: how much of it this process can have, and handing back what it no longer needs."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

__all__ = ["free_ram", "give_back", "total_ram"]

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")  # inside a container this is its own group


def free_ram(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> int | None:
    """Bytes that can be had without swapping, cached files counted as free. None where the system is silent.

    A container that is allowed less than the machine has counts as the smaller machine it is.
    """
    try:
        lines = meminfo.read_text().splitlines()
        available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):  # not Linux
        return None
    left = _left_in_group(cgroup)
    return available if left is None else min(available, left)


def total_ram() -> int | None:
    """Bytes of main memory in this machine. None where the system is silent."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None


def give_back() -> None:
    """Return the memory of freed tensors to the system.

    The C library of Linux keeps that of tensors up to 32 MiB for itself: half of a freed expert and more.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):  # a C library that has no such thing
        return


def _left_in_group(cgroup: Path) -> int | None:
    """What is left of a version 2 control group's limit; None without a limit."""
    try:
        limit = (cgroup / "memory.max").read_text().strip()
        if limit == "max":
            return None
        used = int((cgroup / "memory.current").read_text())
        stat = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        return max(int(limit) - used + int(stat["inactive_file"]) + int(stat["active_file"]), 0)
    except (OSError, ValueError, KeyError):
        return None
