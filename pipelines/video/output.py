"""Checks that a result can be written, before any work is done, and writes its receipt."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import MediaError, RequestError
from ..files.file_names import require_file_name, too_long
from ..files.staging import StagingError, require_free, staged_file, staged_pair
from .local_file import file_at

__all__ = [
    "BOUGHT_SUFFIXES",
    "FILE_ENTRY",
    "SUFFIXES",
    "file_entry",
    "require_known_suffix",
    "require_place",
    "require_suffix",
    "require_writable",
    "reserved_output",
    "sidecar",
    "suffix_of",
    "write_sidecar",
]

_SUFFIXES_OF = {"mp4": (".mp4",), "mov": (".mov",), "png": (".png",), "jpeg": (".jpg", ".jpeg")}

FILE_ENTRY = "file"  # the key of `file_entry` in a receipt beside its file
SUFFIXES = tuple(ending for endings in _SUFFIXES_OF.values() for ending in endings)
"""Every suffix that a run can write."""

BOUGHT_SUFFIXES = tuple(ending for ending in SUFFIXES if ending != ".mov")
"""Every suffix that the result of a provider can have."""


def suffix_of(output: str) -> str:
    """Return the suffix for an output of "mp4", "mov", "png" or "jpeg"."""
    return _SUFFIXES_OF[output][0]


def require_suffix(out: Path, output: str) -> None:
    """Raise RequestError when the suffix of `out` does not fit `output` ("mp4", "mov", "png" or "jpeg")."""
    fitting = _SUFFIXES_OF[output]
    if out.suffix.lower() not in fitting:
        kind = "an image" if output in ("png", "jpeg") else "a video"
        raise RequestError.of(
            "output",
            f"{out.name}, but the result is {kind}",
            f"give a name that ends in {' or '.join(fitting)}",
        )


def require_known_suffix(out: Path, suffixes: Sequence[str] = SUFFIXES) -> None:
    """Raise RequestError when the suffix of `out` is not one of `suffixes`."""
    if out.suffix.lower() not in suffixes:
        fix = f"give a name that ends in {', '.join(suffixes)}"
        raise RequestError.of("--output", str(out), fix)


def sidecar(video: Path) -> Path:
    """Return the path of the receipt: that of the video with the suffix .json."""
    return video.with_suffix(".json")


@contextmanager
def reserved_output(video: Path) -> Iterator[Path]:
    """Make the folder of `video`, and yield the path to write to: it and its `sidecar` take their places
    together when the work is done. When it fails, all is undone.

    Raises RequestError when the receipt would replace a file that is no receipt, MediaError when the
    folder is not writable.
    """
    _require_no_stranger(sidecar(video))
    made = [folder for folder in video.absolute().parents if not folder.exists()]
    try:
        require_writable(video, make_folder=True)
        with staged_pair(video, sidecar(video)) as staged:
            yield staged
    except BaseException as error:
        _remove_empty(made)
        if isinstance(error, StagingError):
            raise _cannot_write(video, error) from error
        raise


def require_place(out: Path) -> None:
    """Raise as `require_writable` does, and leave nothing behind: not even the folders that are missing."""
    made = [folder for folder in out.absolute().parents if not folder.exists()]
    try:
        require_writable(out, make_folder=True)
    finally:
        _remove_empty(made)


def require_writable(video: Path, *, make_folder: bool = False) -> None:
    """Raise MediaError when `video` cannot be written, RequestError when its name is not allowed.

    make_folder: create its folder, which then remains.
    """
    require_file_name(video)
    try:
        if make_folder:
            video.parent.mkdir(parents=True, exist_ok=True)
        if video.is_dir():
            raise IsADirectoryError(21, "it is a folder")
        require_free(video)
    except OSError as error:
        raise _cannot_write(video, error) from error


def _cannot_write(video: Path, error: OSError) -> MediaError:
    reason = too_long(video.absolute()) or error.strerror or error
    return MediaError(f"cannot write {video}: {reason}; choose another path")


def file_entry(video: Path) -> dict[str, Any]:
    """Return what a receipt says of the bytes of its file. Raises RequestError if they cannot be read."""
    read = file_at(video, "output")
    return {"sha256": read.sha256, "size_bytes": read.size_bytes}


def write_sidecar(video: Path, receipt: Mapping[str, Any]) -> None:
    """Write the receipt of `video` beside it, with the hash of its bytes. Raises MediaError if that fails."""
    try:
        whole = {**receipt, FILE_ENTRY: file_entry(video)}
        with staged_file(sidecar(video)) as part:
            part.write_text(json.dumps(whole, indent=2, ensure_ascii=False), encoding="utf-8")
    except OSError as error:
        raise MediaError(f"cannot write {sidecar(video)}: {error.strerror or error}") from error


def _require_no_stranger(file: Path) -> None:
    """Raise RequestError when `file` exists and is not a receipt, for example a request."""
    if not os.path.exists(file):  # unlike Path.exists, no error for a name that is too long
        return
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:  # another run has just removed it, to replace the pair
        return
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or "wan_duet" not in content:
        raise RequestError.of(
            "output", f"its receipt would replace {file}, which is not a receipt", "give another name"
        )


def _remove_empty(folders: list[Path]) -> None:
    with suppress(OSError):  # somebody put something there: so do the folders around it stay
        for folder in folders:  # the innermost first
            folder.rmdir()
