"""Main memory: how much of it this process may use, and how freed memory is returned to the system."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psutil

__all__ = ["Groups", "free_ram", "total_ram", "trim_heap"]


class _Version(NamedTuple):
    """File names of one version of control groups, and its name for cached files in `memory.stat`."""

    limit: str
    used: str
    cached: tuple[str, str]


# https://docs.kernel.org/admin-guide/cgroup-v2.html and .../cgroup-v1/memory.html. What version 1 counts for
# a group and the groups in it begins with total_; without a limit it says a number that no machine has.
_V2 = _Version("memory.max", "memory.current", ("inactive_file", "active_file"))
_V1 = _Version("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file"))


@dataclass(frozen=True)
class Groups:
    """The Linux control groups of this process. Other systems have none.

    own:  the file in which the system lists them.
    root: where they are mounted. In a container this is often its own group, whatever `own` says.
    """

    own: Path = Path("/proc/self/cgroup")
    root: Path = Path("/sys/fs/cgroup")

    def limit(self) -> int | None:
        """Return the smallest limit of all groups of this process, in bytes. None without a limit."""
        return min((limit for limit, _ in self._bounds()), default=None)

    def left(self) -> int | None:
        """Return the smallest remainder of a limit, in bytes; cached files count as free.

        None without a limit.
        """
        return min((max(left, 0) for _, left in self._bounds()), default=None)

    def _bounds(self) -> Iterator[tuple[int, int]]:
        """Yield (limit, remainder) of every group with a limit, innermost first."""
        for version, root, path in self._mounts():
            inside = root / path.strip("/")
            for folder in (inside, *inside.parents):
                if folder.is_relative_to(root) and (bound := _bound(folder, version)) is not None:
                    yield bound

    def _mounts(self) -> Iterator[tuple[_Version, Path, str]]:
        try:
            lines = self.own.read_text().splitlines()
        except OSError:
            return
        for line in lines:  # hierarchy:controllers:path
            _, controllers, path = line.split(":", 2)
            if not controllers:
                yield _V2, self.root, path
            elif "memory" in controllers.split(","):
                yield _V1, self.root / "memory", path


_GROUPS = Groups()


def free_ram(system: Callable[[], Any] = psutil.virtual_memory, groups: Groups = _GROUPS) -> int:
    """Return the bytes that are free without swapping, including cached files.

    In a container with a memory limit, the limit counts.
    """
    available, left = int(system().available), groups.left()
    return available if left is None else min(available, left)


def total_ram(system: Callable[[], Any] = psutil.virtual_memory, groups: Groups = _GROUPS) -> int:
    """Return the bytes of main memory, or the limit of this process."""
    total, limit = int(system().total), groups.limit()
    return total if limit is None else min(total, limit)


def trim_heap() -> None:
    """Return the memory of freed tensors to the system.

    The C library of Linux caches the memory of tensors up to 32 MiB, which is more than half of an expert.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):  # a C library that has no such thing
        return


def _bound(folder: Path, version: _Version) -> tuple[int, int] | None:
    """Return (limit, remainder); None without a limit or group."""
    try:
        limit = int((folder / version.limit).read_text())
        used = int((folder / version.used).read_text())
    except (OSError, ValueError):  # version 2 says "max" where there is no limit
        return None
    return limit, limit - used + _cached(folder, version)


def _cached(folder: Path, version: _Version) -> int:
    """Return the bytes of cached files that a group counts; 0 where it does not say, as in some sandboxes."""
    try:
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return sum(int(stat.get(name, 0)) for name in version.cached)
    except (OSError, ValueError):
        return 0
