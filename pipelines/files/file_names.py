"""What no file can be called on Windows. Elsewhere `a:b.mp4` and `CON.mp4` are names like any other."""

from __future__ import annotations

import re
import sys
from pathlib import Path, PureWindowsPath

from ..errors import RequestError

__all__ = ["is_device_name", "require_file_name", "too_long"]

# learn.microsoft.com/windows/win32/fileio/naming-a-file, 2026-11. Until Windows 11 any ending is ignored:
# NUL.tar.gz is NUL.
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\..*)?", re.IGNORECASE)
_FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f]')
_MAX_PATH = 260  # with the zero at its end


def require_file_name(path: Path | str, platform: str = sys.platform) -> None:
    """RequestError where no file can have this name. platform: as sys.platform."""
    found = _objection(PureWindowsPath(path)) if platform == "win32" else None
    if found is not None:
        reason, fix = found
        raise RequestError.of("output", f"{path}: {reason}", fix)


def is_device_name(name: str) -> bool:
    """Whether Windows takes this name of a file for a device: what is written to it is gone."""
    return _DEVICE.fullmatch(name) is not None


def too_long(path: Path | str, platform: str = sys.platform) -> str | None:
    """Why a file could not be made, where its length may be the reason. path: from the root on.

    No rule refuses it: Windows takes long paths where they are switched on.
    """
    if platform != "win32" or len(str(path)) < _MAX_PATH or str(path).startswith("\\\\?\\"):
        return None
    return (
        f"its path has {len(str(path))} characters, and Windows takes {_MAX_PATH - 1} unless "
        "LongPathsEnabled is set in its registry"
    )


def _objection(path: PureWindowsPath) -> tuple[str, str] | None:
    """(what is wrong, what would work)"""
    if path.drive.startswith("\\\\."):
        return f"{path.drive} is a device", "give a file in a folder"
    if path.drive.endswith(":") and not path.root:
        fix = f"{path.drive}\\{path.relative_to(path.drive)}"
        return f"{path.drive} without a \\ is whatever folder that drive was last in", f"give {fix}"
    if not path.name:
        kind = "a share of another machine" if path.drive.startswith("\\\\") else "a folder"
        return f"this names {kind} and no file in it", "add the name of the file"
    for part in path.parts[1 if path.anchor else 0 :]:
        if is_device_name(part):
            return f"{part} is a device on Windows", "give another name"
        if (character := _FORBIDDEN.search(part)) is not None:
            return f"Windows has no {character[0]!r} in names", "give a name without it"
        if part[-1] in ". " and part not in (".", ".."):
            return f"Windows drops the {part[-1]!r} at the end of {part!r}", "leave it out"
    return None
