"""Downloads one result file from a provider: resumes, limits the size, and checks the format.

The key is never sent: the file is on another host, and its address is sufficient.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from ..download.address import shown
from ..download.partial_file import (
    BrokenError,
    forget,
    note_version,
    size_of,
    sync_and_hash,
    verify,
    version_of,
)
from ..download.public_web import PublicTransport, redirected, url_of
from ..errors import DownloadError, JobLostError, RemoteError, UnreachableError
from ..files.on_disk import move_into_place
from .api import Timeouts
from .provider import Downloaded, RemoteFile
from .retry import RetryTiming, failure_kind_of_status, retry_after_s

__all__ = ["Caps", "Cdn", "suffix_of_bytes"]

log = logging.getLogger(__name__)

_ATTEMPTS = 6  # in a row that bring nothing new
_MOST_REDIRECTS = 3
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_TRY_OR_FORGET = "The job stays open, to be tried again; `wan-duet jobs forget` gives its file up"
_STARTS = {b"\x1aE\xdf\xa3": ".webm", b"\x89PNG\r\n\x1a\n": ".png", b"\xff\xd8\xff": ".jpg"}
_LARGEST_HEADER = 100_000_000  # bytes, as the safetensors library allows
_GONE = {401, 403, 404, 410}  # a signed address that has expired answers 403


@dataclass(frozen=True)
class Caps:
    """The largest accepted size of each type of file, in bytes."""

    video: int = 2 * 2**30
    image: int = 100 * 2**20

    def for_type(self, content_type: str | None) -> int:
        return self.image if (content_type or "").startswith("image/") else self.video


@dataclass(frozen=True)
class Cdn:
    """Downloads files from public hosts, without a key.

    transport: refuses hosts that are not public.
    """

    provider: str
    transport: httpx.AsyncBaseTransport
    timing: RetryTiming = field(default_factory=RetryTiming)
    timeouts: Timeouts = field(default_factory=Timeouts)
    caps: Caps = field(default_factory=Caps)

    @classmethod
    def for_results(
        cls,
        provider: str,
        *,
        allow_loopback: bool,
        timing: RetryTiming,
        timeouts: Timeouts,
        caps: Caps | None = None,
        proxy: str | None = None,
    ) -> Cdn:
        """Return a downloader for the internet, through `proxy` if set.

        With `allow_loopback` it may also use this machine.
        """
        transport = PublicTransport(proxy=proxy, allow_loopback=allow_loopback)
        return cls(provider, transport, timing, timeouts, caps or Caps())

    async def close(self) -> None:
        await self.transport.aclose()

    async def download(
        self,
        file: RemoteFile,
        to: Path,
        *,
        progress: Callable[[int, int | None], None],
        check: Callable[[], None],
    ) -> Downloaded:
        """Download a result file. See `Provider.download`."""
        part = to.with_name(f"{to.name}.part")
        idle, most = 0, size_of(part)
        while True:
            try:
                check()
                await self._gather(file, part, progress, check)
                await asyncio.to_thread(verify, part)
                break
            except (httpx.TransportError, httpx.StreamError, BrokenError) as error:
                idle = 0 if size_of(part) > most else idle + 1
                most = max(most, size_of(part))
                reason = str(error) or type(error).__name__
                if idle >= _ATTEMPTS:
                    raise self._error(UnreachableError, f"downloading {shown(file.url)}: {reason}") from None
                log.info("%s: %s; resuming at %d bytes", shown(file.url), reason, size_of(part))
                asked = error.retry_after_s if isinstance(error, BrokenError) else None
                await self.timing.sleep(self.timing.wait_s(max(idle, 1), asked))
            except DownloadError as error:
                raise self._error(RemoteError, f"downloading the result: {error}. {_TRY_OR_FORGET}") from None
            except OSError as error:
                raise self._error(
                    RemoteError, f"{part}: cannot be written: {error.strerror or error}"
                ) from error
        return await self._keep(file, part, to)

    async def holds(self, url: str) -> bool:
        """Return whether a file still exists, for an upload that may be reused. A failed request means no."""
        try:
            response = await self._get(url, {"Range": "bytes=0-0"})
            await response.aclose()
        except (httpx.HTTPError, httpx.StreamError, DownloadError):
            return False
        return response.status_code in (200, 206)

    async def _keep(self, file: RemoteFile, part: Path, to: Path) -> Downloaded:
        size = size_of(part)
        if suffix_of_bytes(part) is None:
            forget(part)
            raise self._error(
                RemoteError,
                f"{shown(file.url)}: the content is no video, image or LoRA ({size} bytes). {_TRY_OR_FORGET}",
            )
        if file.size_bytes is not None and file.size_bytes != size:
            log.warning("%s stated %d bytes, but the file has %d", self.provider, file.size_bytes, size)
        try:
            digest = await asyncio.to_thread(sync_and_hash, part)
            await asyncio.to_thread(move_into_place, part, to)
            forget(part)
        except OSError as error:
            raise self._error(RemoteError, f"{to}: cannot be written: {error.strerror or error}") from error
        return Downloaded(to, size, digest)

    async def _gather(
        self,
        file: RemoteFile,
        part: Path,
        progress: Callable[[int, int | None], None],
        check: Callable[[], None],
    ) -> None:
        etag, have = version_of(part)
        headers = {"Range": f"bytes={have}-", "If-Range": etag} if have else {}
        cap = self.caps.for_type(file.content_type)
        response = await self._get(file.url, headers)
        try:
            begin, total = self._extent(response, have, file, part)
            if begin is None:
                return  # everything is here already
            if total is not None and total > cap:
                raise DownloadError(f"the file has {total} bytes, but the limit is {cap}")
            if begin == 0:
                forget(part)
            note_version(part, response)
            size = begin
            with part.open("ab") as stream:
                progress(size, total)
                async for chunk in response.aiter_raw():
                    check()
                    size += len(chunk)
                    if size > cap or (total is not None and size > total):
                        stream.close()
                        forget(part)
                        raise DownloadError(f"the file has {size} bytes or more; the limit is {total or cap}")
                    stream.write(chunk)
                    progress(size, total)
        finally:
            await response.aclose()
        if total is not None and size < total:
            raise BrokenError(f"the connection broke after {size} of {total} bytes")

    async def _get(self, url: str, headers: dict[str, str]) -> httpx.Response:
        """Return the response after all redirects, with its body unread.

        Raises DownloadError and httpx errors.
        """
        at = url_of(url)
        every = {"User-Agent": "wan-duet", "Accept": "*/*", "Accept-Encoding": "identity", **headers}
        for _ in range(_MOST_REDIRECTS + 1):
            request = httpx.Request("GET", at, headers=every, extensions={"timeout": self.timeouts.as_dict()})
            response = await self.transport.handle_async_request(request)
            try:
                target = redirected(at, response)
            except DownloadError:
                await response.aclose()
                raise
            if target is None:
                return response
            await response.aclose()
            at = target
        raise DownloadError(f"{shown(url)}: redirected more than {_MOST_REDIRECTS} times")

    def _extent(
        self, response: httpx.Response, have: int, file: RemoteFile, part: Path
    ) -> tuple[int | None, int | None]:
        """Return the offset of the answer in the file and the size of the file, in bytes.

        The offset is None if the file is complete.
        """
        status, headers = response.status_code, response.headers
        if headers.get("content-encoding", "identity") != "identity":
            raise DownloadError("the server sends the file compressed, which is not supported")
        if status == 200:
            length = headers.get("content-length", "")
            return 0, int(length) if length.isdecimal() else None
        if status == 206:
            match = _RANGE.fullmatch(headers.get("content-range", ""))
            if have and match is not None and int(match[1]) == have:
                return have, int(match[3])
            forget(part)
            raise BrokenError("the server sent another part of the file than requested")
        if status == 416 and have:
            if headers.get("content-range", "") == f"bytes */{have}":
                return None, have
            forget(part)
            raise BrokenError("the file at the server is smaller than the bytes received so far")
        if status in _GONE:
            raise self._error(
                JobLostError, f"{shown(file.url)}: answered {status}; the file is no longer there"
            )
        if failure_kind_of_status(status) == "refused":
            raise DownloadError(f"{shown(file.url)}: answered {status}")
        raise BrokenError(f"answered {status}", retry_after_s(headers.get("retry-after")))

    def _error(self, error: type[RemoteError], message: str) -> RemoteError:
        return error(message, provider=self.provider, money="spent")


def suffix_of_bytes(path: Path) -> str | None:
    """Return ".mp4" (also for MOV), ".webm", ".png", ".jpg", ".webp" or ".safetensors" by the first bytes;
    else None.
    """
    with path.open("rb") as stream:
        head = stream.read(12)
    if head[4:8] == b"ftyp":
        return ".mp4"
    if head[:4] == b"RIFF" and head[8:] == b"WEBP":
        return ".webp"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _LARGEST_HEADER:
        return ".safetensors"
    return next((suffix for start, suffix in _STARTS.items() if head.startswith(start)), None)
