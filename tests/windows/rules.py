"""The rules of Windows for files, kept on Linux: an audit hook refuses what Windows would refuse.

Python reports each call to the system before it makes it (PEP 578), and an exception of a hook stops the
call. So our code runs as it is, on real files, and gets the errors that it would get there:

- a file that this process has open or memory-mapped is neither replaced, renamed nor removed (Python, libav
  and SQLite open without FILE_SHARE_DELETE);
- a memory-mapped file is not cut to a length, nor opened for writing anew;
- names that Windows has not are not created;
- a symbolic link needs a privilege, and there is no fork.

Only calls that our own code makes are refused: tests prepare what they like, and packages have code of their
own for Windows. What is open or mapped is read from /proc, so the rules are kept on Linux alone.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ["kept"]

_ROOT = Path(__file__).resolve().parents[2]
_OURS = tuple(str(_ROOT / place) for place in ("pipelines/", "nodes/", "run.py", "__main__.py"))
_PYTHON = tuple({f"{sysconfig.get_path(name)}/" for name in ("stdlib", "platstdlib")})
_PACKAGES = ("/site-packages/", "/dist-packages/")
_NO_NAME = re.compile(r'[<>:"|?*\x00-\x1f]|[. ]$|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)', re.IGNORECASE)
_MAKES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class SharingViolationError(PermissionError):
    """As Windows reports an open file: errno EACCES, winerror 32."""

    winerror = 32


class UserMappedFileError(OSError):
    """As Python on Windows reports a memory-mapped file: errno EINVAL, winerror 1224."""

    winerror = 1224


@contextmanager
def kept() -> Iterator[None]:
    """Within the block our code works under these rules. Where there is no /proc nothing changes."""
    global _active, _installed
    if not _installed and sys.platform == "linux":
        sys.addaudithook(_look)  # for good: Python has no way to take one back
        _installed = True
    before, _active = _active, True
    try:
        yield
    finally:
        _active = before


_active = _installed = False


def _look(event: str, arguments: tuple[Any, ...]) -> None:
    rule = _RULES.get(event) if _active else None
    if rule is not None and (caller := _caller()).f_code.co_filename.startswith(_OURS):
        rule(caller.f_code.co_name, *arguments)


def _caller() -> FrameType:
    """Who made the call: the nearest frame that is not Python's own library."""
    frame = sys._getframe(2)
    while frame.f_back is not None:
        file = frame.f_code.co_filename
        own = file.startswith(("<frozen", *_PYTHON)) and not any(place in file for place in _PACKAGES)
        if not own:
            break
        frame = frame.f_back
    return frame


def _open(caller: str, path: Any, mode: str | None, flags: int) -> None:
    del caller, mode
    if isinstance(path, int) or not flags & _MAKES:
        return
    name = Path(os.fsdecode(path)).name
    if _NO_NAME.search(name) and name != os.path.basename(os.devnull):
        raise OSError(errno.EINVAL, "Windows has no such name", os.fsdecode(path))
    if flags & os.O_TRUNC and (place := _place(path, -1)) in _mapped():
        raise UserMappedFileError(errno.EINVAL, "the file has a user-mapped section open", place)


def _rename(caller: str, source: Any, target: Any, source_folder: int, target_folder: int) -> None:
    del caller
    for place in (_place(source, source_folder), _place(target, target_folder)):
        _require_unused(place)


def _remove(caller: str, path: Any, folder: int) -> None:
    del caller
    _require_unused(_place(path, folder))


def _truncate(caller: str, path: Any, length: int) -> None:
    del caller, length
    if not isinstance(path, int) and (place := _place(path, -1)) in _mapped():
        raise UserMappedFileError(errno.EINVAL, "the file has a user-mapped section open", place)


def _symlink(caller: str, source: Any, target: Any, folder: int) -> None:
    del source, folder
    if caller != "link_folder":  # on Windows it makes a junction
        raise OSError(errno.EPERM, "a required privilege is not held", os.fsdecode(target))


def _fork(caller: str) -> None:
    raise OSError(errno.ENOSYS, f"{caller}: Windows has no fork")


_RULES: dict[str, Callable[..., None]] = {
    "open": _open,
    "os.rename": _rename,  # os.replace too
    "os.remove": _remove,
    "os.truncate": _truncate,
    "os.symlink": _symlink,
    "os.fork": _fork,
}


def _require_unused(place: str) -> None:
    """Neither the file nor, of a folder, anything in it."""

    def among(files: Iterable[str]) -> bool:
        return any(one == place or one.startswith(f"{place}/") for one in files)

    if among(_opened()):
        raise SharingViolationError(errno.EACCES, "another process uses the file", place)
    if among(_mapped()):
        raise UserMappedFileError(errno.EINVAL, "the file has a user-mapped section open", place)


def _place(path: Any, folder: int) -> str:
    """Without links in its folders; a link itself stays one, as it is what is removed or replaced."""
    near = Path(os.fsdecode(path))
    if folder >= 0 and not near.is_absolute():
        near = Path(os.readlink(f"/proc/self/fd/{folder}")) / near
    return f"{os.path.realpath(near.parent)}/{near.name}"


def _opened() -> Iterator[str]:
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one that lists them
            yield os.readlink(f"/proc/self/fd/{number}")


def _mapped() -> set[str]:
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as lines:
        return {line[line.index("/") :].rstrip("\n") for line in lines if "/" in line}
