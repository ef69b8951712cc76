"""One file from the web onto the disk: continued where it broke off, measured, and looked at."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from ..errors import DownloadError
from ..progress import Progress
from .partial_file import BrokenError, forget, forget_version, note_version, version_of
from .web import TOKEN_NAMES, Web

__all__ = ["DownloadLimits", "fetch"]

log = logging.getLogger(__name__)

_MIB = 2**20
_ATTEMPTS = 4
_LONGEST_HEADER = 100 * 10**6  # bytes; what the safetensors library itself accepts
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
_FILE_NAME = re.compile(r'filename="?([^";]+)"?', re.IGNORECASE)


@dataclass(frozen=True)
class DownloadLimits:
    """size_bytes:   the largest file that is taken.
    free_bytes:   free space in a folder.
    margin_bytes: what stays free.
    """

    size_bytes: int
    free_bytes: Callable[[Path], int]
    margin_bytes: int = 256 * _MIB


class _UselessError(DownloadError):
    """What came is nothing to continue. It is removed once it is closed: Windows removes no open file."""


def fetch(url: str, shown: str, part: Path, web: Web, limits: DownloadLimits, progress: Progress) -> str:
    """Gather the safetensors file at `url` in `part`, and return the name the server gives it, or "".

    What `part` holds already is continued when the server still has the same version of the file.
    Raises DownloadError with `shown` for whatever goes wrong. What was gathered stays for the next try,
    unless it is of no use; so it does when `progress.check` raises.
    """
    for attempt in range(_ATTEMPTS):
        _, before = version_of(part)
        try:
            name = _gather(url, shown, part, web, limits, progress)
            _require_whole(part, shown)
            forget_version(part)
            return name
        except (httpx.TransportError, BrokenError) as error:
            (_, kept), reason = version_of(part), str(error) or type(error).__name__
            if attempt == _ATTEMPTS - 1 or kept <= before:
                at = f"; {kept // _MIB} MiB are kept, run again to continue" if kept else "; try again"
                raise DownloadError(f"{shown}: {reason}{at}") from error
            log.info("%s: %s; continuing at %d MiB", shown, reason, kept // _MIB)
        except _UselessError:
            forget(part)
            raise
        except OSError as error:
            raise DownloadError(f"{part}: cannot be written: {error.strerror or error}") from error
    raise AssertionError("the last attempt returns or raises")


def _gather(url: str, shown: str, part: Path, web: Web, limits: DownloadLimits, progress: Progress) -> str:
    progress.check()
    version, have = version_of(part)
    headers = {"Range": f"bytes={have}-", "If-Range": version} if have else {}
    with web.get(url, headers) as answer:
        if answer.status_code == 416 and have:  # nothing follows: we may have all, or something else
            forget(part)
            return _gather(url, shown, part, web, limits, progress)
        _require_found(answer, shown)
        begin, total = _extent(answer, have, shown)
        if begin == 0:
            forget(part)
        _require_room(part, begin, total, shown, limits)
        note_version(part, answer)
        progress.begin("downloading", 1 if total is None else -(-total // _MIB), "MiB")
        with part.open("ab") as stream:
            size = begin
            for chunk in answer.iter_raw():
                progress.check()
                stream.write(chunk)
                size += len(chunk)
                if size > limits.size_bytes or (total is not None and size > total):
                    raise _UselessError(f"{shown}: goes on after {_gib(size)}; {_cap(limits)}")
                if size - len(chunk) < 9 <= size:
                    stream.flush()
                    _require_safetensors(part, answer, shown, total)
                progress.advance(0 if total is None else size // _MIB)
    if total is not None and size < total:
        raise BrokenError(f"broke off after {_gib(size)} of {_gib(total)}")
    progress.advance(1 if total is None else -(-total // _MIB))
    return _name_of(answer)


def _require_found(answer: httpx.Response, shown: str) -> None:
    status = answer.status_code
    if status in (200, 206):
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise DownloadError(f"{shown}: comes compressed, which was not asked for; save it yourself")
        return
    if status in (401, 403):
        raise DownloadError(f"{shown}: answered {status}, not allowed{_token_hint(shown)}")
    if status in (404, 410):
        raise DownloadError(f"{shown}: no such file there ({status}); check the address")
    raise DownloadError(f"{shown}: answered {status}; try again later")


def _extent(answer: httpx.Response, have: int, shown: str) -> tuple[int, int | None]:
    """The first byte of the answer within the file, and the size of the whole file where it is known."""
    if answer.status_code == 200:
        length = answer.headers.get("content-length", "")
        return 0, int(length) if length.isdecimal() else None
    match = _RANGE.fullmatch(answer.headers.get("content-range", ""))
    if match is None or int(match[1]) != have:
        raise DownloadError(f"{shown}: answered with another part than was asked for; delete the .part file")
    return have, int(match[2])


def _require_room(part: Path, have: int, total: int | None, shown: str, limits: DownloadLimits) -> None:
    """Before the first byte: is it too large, and is there space for it?"""
    if total is None:
        return
    if total > limits.size_bytes:
        raise DownloadError(f"{shown}: has {_gib(total)}; {_cap(limits)}")
    free = limits.free_bytes(part.parent)
    if total - have + limits.margin_bytes > free:
        raise DownloadError(
            f"{part.parent}: {_gib(free)} are free, {shown} needs {_gib(total - have)} more and "
            f"{_gib(limits.margin_bytes)} to spare; make room there"
        )


def _require_safetensors(part: Path, answer: httpx.Response, shown: str, total: int | None) -> None:
    """After nine bytes: is it a safetensors file at all, and not a page, a zip or a pickle?"""
    with part.open("rb") as stream:
        head = stream.read(9)
    length = int.from_bytes(head[:8], "little")
    if head[8:] == b"{" and length <= min(_LONGEST_HEADER, (total or _LONGEST_HEADER + 8) - 8):
        return
    kind = answer.headers.get("content-type", "unknown").partition(";")[0][:60]
    page = kind == "text/html"
    hint = "a page; give the link of its download button" if page else f"no safetensors file ({kind})"
    raise _UselessError(f"{shown}: is {hint}{_token_hint(shown) if page else ''}")


def _require_whole(part: Path, shown: str) -> None:
    """The safetensors library looks at every offset; it reads no tensor."""
    from safetensors import safe_open

    try:
        with safe_open(part, framework="np") as opened:
            empty = not list(opened.keys())
    except Exception as error:  # a type of its own, OSError or RuntimeError
        raise _UselessError(f"{shown}: is no sound safetensors file: {error}") from error
    if empty:
        raise _UselessError(f"{shown}: is a safetensors file without any tensor")


def _name_of(answer: httpx.Response) -> str:
    found = _FILE_NAME.search(answer.headers.get("content-disposition", ""))
    return found[1] if found else ""


def _token_hint(shown: str) -> str:
    host = shown.removeprefix("https://").partition("/")[0]
    name = TOKEN_NAMES.get(host)
    return f"; if it needs a sign-in, set {name} in the environment" if name else ""


def _cap(limits: DownloadLimits) -> str:
    return f"no more than {_gib(limits.size_bytes)} are fetched; save it yourself if it is right"


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.2f} GiB" if size_bytes >= 2**27 else f"{size_bytes / _MIB:.2f} MiB"
