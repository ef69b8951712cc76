"""Downloads one file: resumes an interrupted download, and checks size, free space and format."""

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
    """The limits of one download.

    size_bytes:   the largest file that is accepted.
    free_bytes:   returns the free disk space of a folder in bytes.
    margin_bytes: of disk space that must stay free.
    listed_bytes: the size that the file must have; None if it is not known before.
    """

    size_bytes: int
    free_bytes: Callable[[Path], int]
    margin_bytes: int = 256 * _MIB
    listed_bytes: int | None = None


class _UselessError(DownloadError):
    """The partial file cannot be resumed. It is deleted after it is closed: Windows deletes no open file."""


def fetch(
    url: str,
    shown: str,
    part: Path,
    web: Web,
    limits: DownloadLimits,
    progress: Progress,
    file_format: FileFormat = SAFETENSORS,
) -> str:
    """Download the weight file at `url` into `part`. Return the file name the server states, or "".

    Resume what `part` contains if the server still has the same version of the file.

    Raises DownloadError, with `shown` in its message, and what `progress.check` raises. Either way `part`
    is kept for the next call, unless it cannot be resumed.
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
                at = f"; {kept // _MIB} MiB are kept, run again to resume" if kept else "; try again"
                raise DownloadError(f"{shown}: {reason}{at}") from error
            log.info("%s: %s; resuming at %d MiB", shown, reason, kept // _MIB)
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
        if answer.status_code == 416 and have:  # no bytes follow: the part is whole, or of another file
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
                    raise _UselessError(f"{shown}: is larger than {_gib(size)}; {_cap(limits)}")
                if size - len(chunk) < HEAD_BYTES <= size:
                    stream.flush()
                    _require_format(part, answer, shown, total, file_format)
                progress.advance(0 if total is None else size // _MIB)
    if total is not None and size < total:
        raise BrokenError(f"the connection broke after {_gib(size)} of {_gib(total)}")
    progress.advance(1 if total is None else -(-total // _MIB))
    return _name_of(answer)


def _require_found(answer: httpx.Response, shown: str) -> None:
    status = answer.status_code
    if status in (200, 206):
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise DownloadError(
                f"{shown}: the server sends it compressed, which is not supported; download it yourself"
            )
        return
    if status in (401, 403):
        gated = answer.headers.get("x-error-code") == "GatedRepo"  # Hugging Face's code for terms to accept
        terms = "; accept the terms of its authors on the page of the repository first" if gated else ""
        raise DownloadError(f"{shown}: the server refused access ({status}){terms}{_token_hint(shown)}")
    if status in (404, 410):
        raise DownloadError(f"{shown}: there is no such file ({status}); check the address")
    raise DownloadError(f"{shown}: the server answered {status}; try again later")


def _extent(answer: httpx.Response, have: int, shown: str) -> tuple[int, int | None]:
    """Return the offset of the answer in the file, and the size of the file (None if unknown), in bytes."""
    if answer.status_code == 200:
        length = answer.headers.get("content-length", "")
        return 0, int(length) if length.isdecimal() else None
    match = _RANGE.fullmatch(answer.headers.get("content-range", ""))
    if match is None or int(match[1]) != have:
        raise DownloadError(
            f"{shown}: the server sent another part of the file than requested; delete the .part file"
        )
    return have, int(match[2])


def _require_room(part: Path, have: int, total: int | None, shown: str, limits: DownloadLimits) -> None:
    """Check, before the first byte is written, that the file is not too large and that the disk has space."""
    if total is None:
        return
    if limits.listed_bytes not in (None, total):
        raise _UselessError(
            f"{shown}: the server sends {total} bytes, but {limits.listed_bytes} are listed; the file was "
            "replaced, or the answer is not the file. Nothing of it was kept; try again later"
        )
    if total > limits.size_bytes:
        raise DownloadError(f"{shown}: the file has {_gib(total)}; {_cap(limits)}")
    free = limits.free_bytes(part.parent)
    if total - have + limits.margin_bytes > free:
        raise DownloadError(
            f"{part.parent}: {_gib(free)} are free, but {shown} needs {_gib(total - have)} more and "
            f"{_gib(limits.margin_bytes)} must stay free; free disk space there"
        )


def _require_format(
    part: Path, answer: httpx.Response, shown: str, total: int | None, file_format: FileFormat
) -> None:
    """Check the first bytes: that it is a file of this format, not a page, a zip or a pickle."""
    with part.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    if file_format.begins(head, total):
        return
    kind = answer.headers.get("content-type", "unknown").partition(";")[0][:60]
    page = kind == "text/html"
    hint = "a web page; give the link of its download button"
    if not page:
        hint = f"not a {file_format.name} file ({kind})"
    raise _UselessError(f"{shown}: is {hint}{_token_hint(shown) if page else ''}")


def _name_of(answer: httpx.Response) -> str:
    found = _FILE_NAME.search(answer.headers.get("content-disposition", ""))
    return found[1] if found else ""


def _token_hint(shown: str) -> str:
    host = shown.removeprefix("https://").partition("/")[0]
    name = TOKEN_NAMES.get(host)
    return f"; if it needs a sign-in, set {name} in the environment" if name else ""


def _cap(limits: DownloadLimits) -> str:
    return f"the limit is {_gib(limits.size_bytes)}; if this is the right file, download it yourself"


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.2f} GiB" if size_bytes >= 2**27 else f"{size_bytes / _MIB:.2f} MiB"
