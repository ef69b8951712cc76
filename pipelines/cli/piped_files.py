"""Lets `-` stand for standard input and output where a command takes a media file.

A video is read more than once, and its index is written last. So what is piped lies in a temporary file.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from ..errors import RequestError
from ..files.on_disk import move_into_place
from ..video.containers import CONTAINERS
from ..video.video_format import AUTO

__all__ = ["PIPE", "PIPEABLE", "input_file", "output_file", "output_name"]

PIPE = Path("-")
PIPEABLE = tuple(name for name, container in CONTAINERS.items() if container.muxer)
"""Formats that are one file."""


@contextmanager
def input_file(path: Path) -> Iterator[Path]:
    """Yield `path`, or for `-` a temporary file with all of standard input.

    Raises RequestError if nothing is piped in.
    """
    if path != PIPE:
        yield path
        return
    if sys.stdin.isatty():
        raise RequestError.of("-", "standard input is a terminal", "pipe a file into the command")
    with tempfile.TemporaryDirectory(prefix="wan-duet-") as folder:
        spool = Path(folder, "stdin")
        with spool.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        if not spool.stat().st_size:
            raise RequestError.of("-", "standard input is empty", "pipe a file into the command")
        yield _with_suffix(spool)


def output_name(path: Path, container: str | None, codec: str) -> Path:
    """Return `path`, or for `-` a name whose suffix says the format: `container`, else that of `codec`.

    Raises RequestError for a container that is not that of the path.
    """
    if path != PIPE:
        if container is not None and path.suffix.lower() != f".{container}":
            raise RequestError.of("--container", f"{container}, but {path.name}", "leave --container out")
        return path
    usual = [name for name, each in CONTAINERS.items() if codec in (AUTO, each.codecs[0])]
    holding = [name for name, each in CONTAINERS.items() if codec in each.codecs]
    return Path(f"stdout.{container or (usual + holding)[0]}")


@contextmanager
def output_file(path: Path, suffix: str) -> Iterator[Path]:
    """Yield `path`, or for `-` a temporary file that goes to standard output once it is complete.

    suffix: of that file, without the dot. What is printed meanwhile goes to stderr.

    Raises RequestError if standard output is a terminal.
    """
    if path != PIPE:
        yield path
        return
    if sys.stdout.isatty():
        raise RequestError.of("--output", "standard output is a terminal", "pipe it, or give a file")
    with tempfile.TemporaryDirectory(prefix="wan-duet-") as folder:
        spool = Path(folder, f"stdout.{suffix}")
        with redirect_stdout(sys.stderr):
            yield spool
        with spool.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()


def _with_suffix(spool: Path) -> Path:
    """Name a WebP as such: which reader a file needs is known from its suffix."""
    with spool.open("rb") as file:
        is_webp = file.read(12)[8:] == b"WEBP"
    if not is_webp:
        return spool
    move_into_place(spool, webp := spool.with_suffix(".webp"))
    return webp
