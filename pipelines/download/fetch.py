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
from .file_format import HEAD_BYTES, SAFETENSORS, FileFormat
from .partial_file import BrokenError, forget, forget_version, note_version, version_of
from .web import TOKEN_NAMES, Web

__all__ = ["DownloadLimits", "fetch"]

log = logging.getLogger(__name__)

_MIB = 2**20
_ATTEMPTS = 4
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
_FILE_NAME = re.compile(r'filename="?([^";]+)"?', re.IGNORECASE)


@dataclass(frozen=True)
class DownloadLimits:
    """size_bytes:   the largest file that is taken.
    free_bytes:   free space in a folder.
    margin_bytes: what stays free.
    listed_bytes: the size that the file has to have, where it is known before.
    """

    size_bytes: int
    free_bytes: Callable[[Path], int]
    margin_bytes: int = 256 * _MIB
    listed_bytes: int | None = None


class _UselessError(DownloadError):
    """What came is nothing to continue. It is removed once it is closed: Windows removes no open file."""


def fetch(
    url: str,
    shown: str,
    part: Path,
    web: Web,
    limits: DownloadLimits,
    progress: Progress,
    file_format: FileFormat = SAFETENSORS,
) -> str:
    """Gather the weight file at `url` in `part`, and return the name the server gives it, or "".

    What `part` holds already is continued when the server still has the same version of the file.
    Raises DownloadError with `shown` for whatever goes wrong. What was gathered stays for the next try,
    unless it is of no use; so it does when `progress.check` raises.
    """
    for attempt in range(_ATTEMPTS):
        _, before = version_of(part)
        try:
            name = _gather(url, shown, part, web, limits, progress, file_format)
            if (objection := file_format.objection(part)) is not None:
                raise _UselessError(f"{shown}: {objection}")
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


def _gather(
    url: str,
    shown: str,
    part: Path,
    web: Web,
    limits: DownloadLimits,
    progress: Progress,
    file_format: FileFormat,
) -> str:
    progress.check()
    version, have = version_of(part)
    headers = {"Range": f"bytes={have}-", "If-Range": version} if have else {}
    with web.get(url, headers) as answer:
        if answer.status_code == 416 and have:  # nothing follows: we may have all, or something else
            forget(part)
            return _gather(url, shown, part, web, limits, progress, file_format)
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
                if size - len(chunk) < HEAD_BYTES <= size:
                    stream.flush()
                    _require_format(part, answer, shown, total, file_format)
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
        gated = (
            answer.headers.get("x-error-code") == "GatedRepo"
        )  # what Hugging Face says of such a repository
        terms = (
            "; its makers ask you to accept their terms on the page of the repository first" if gated else ""
        )
        raise DownloadError(f"{shown}: answered {status}, not allowed{terms}{_token_hint(shown)}")
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
    if limits.listed_bytes not in (None, total):
        raise _UselessError(
            f"{shown}: has {total} bytes there, but {limits.listed_bytes} are listed; it was replaced, or "
            "the answer is not the file. Nothing of it was kept"
        )
    if total > limits.size_bytes:
        raise DownloadError(f"{shown}: has {_gib(total)}; {_cap(limits)}")
    free = limits.free_bytes(part.parent)
    if total - have + limits.margin_bytes > free:
        raise DownloadError(
            f"{part.parent}: {_gib(free)} are free, {shown} needs {_gib(total - have)} more and "
            f"{_gib(limits.margin_bytes)} to spare; make room there"
        )


def _require_format(
    part: Path, answer: httpx.Response, shown: str, total: int | None, file_format: FileFormat
) -> None:
    """After the first bytes: is it such a file at all, and not a page, a zip or a pickle?"""
    with part.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    if file_format.begins(head, total):
        return
    kind = answer.headers.get("content-type", "unknown").partition(";")[0][:60]
    page = kind == "text/html"
    hint = "a page; give the link of its download button" if page else f"no {file_format.name} file ({kind})"
    raise _UselessError(f"{shown}: is {hint}{_token_hint(shown) if page else ''}")


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
