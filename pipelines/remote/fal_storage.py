"""Uploads files of this machine to where fal's models can read them, each content once.

One call with the key returns an upload address. The bytes are sent there without the key. Everyone who knows
the address of an uploaded file can read it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx

from ..errors import DownloadError, RefusedError, UnreachableError
from ..files.on_disk import write_whole
from ..video.local_file import LocalFile
from .api import Api, Timeouts
from .attempts import CallFailedError, repeat
from .download import Cdn
from .redaction import one_line
from .retry import CHEAP, RetryTiming, failure_kind_of_error, failure_kind_of_status, retry_after_s

__all__ = ["FalStorage", "UploadSizes"]

log = logging.getLogger(__name__)

_STORAGE = {"storage_type": "fal-cdn-v3"}  # fal-js, storage.ts
_MEMORY = "uploads.json"
_MOST_REMEMBERED = 200
_AT_ONCE = 4


@dataclass(frozen=True)
class UploadSizes:
    """Sizes in bytes, as in fal's own clients. whole: the largest file that is uploaded in one piece."""

    whole: int = 90 * 10**6
    part: int = 10 * 10**6


@dataclass(frozen=True)
class FalStorage:
    """The storage of one fal account.

    rest:    base address of the service that returns upload addresses.
    cdn:     sends the bytes, without a key.
    account: whose uploads are recorded in `folder`; None records none.
    """

    api: Api
    rest: str
    cdn: Cdn
    account: str
    folder: Path | None = None
    sizes: UploadSizes = field(default_factory=UploadSizes)
    timing: RetryTiming = field(default_factory=RetryTiming)
    timeouts: Timeouts = field(default_factory=Timeouts)

    async def upload(self, file: LocalFile) -> str:
        """Return the address of the file at fal. Reuse an earlier upload if it still exists.

        Raises UnreachableError, or RefusedError if fal does not accept the file. It costs nothing.
        """
        known = self._remembered().get(self._name(file))
        if known is not None and await self.cdn.holds(known):
            log.info("%s was uploaded to fal before", file.name)
            return known
        log.info("uploading %s to fal (%.1f MB)", file.name, file.size_bytes / 1e6)
        try:
            address = await (self._whole if file.size_bytes <= self.sizes.whole else self._in_parts)(file)
        except CallFailedError as failed:
            refused = RefusedError if failed.failure_kind == "refused" else None
            raise failed.as_error(f"uploading {file.name}", error=refused) from None
        if not file.is_unchanged():  # the receipt names the content by its hash
            raise RefusedError(f"{file.name} was changed while it was uploaded; run again", provider="fal")
        self._remember(file, address)
        return address

    async def _whole(self, file: LocalFile) -> str:
        to, address = await self._place("initiate", file)
        data = await asyncio.to_thread(file.read, 0, file.size_bytes)
        await self._send("PUT", to, data, {"Content-Type": file.content_type}, file.name)
        return address

    async def _in_parts(self, file: LocalFile) -> str:
        to, address = await self._place("initiate-multipart", file)
        free = asyncio.Semaphore(_AT_ONCE)

        async def send(number: int) -> dict[str, Any]:
            async with free:
                begin = (number - 1) * self.sizes.part
                data = await asyncio.to_thread(file.read, begin, self.sizes.part)
                response = await self._send("PUT", _below(to, str(number)), data, {}, file.name)
            etag = response.headers.get("etag")
            if etag is None:
                raise UnreachableError(
                    f"uploading {file.name}: part {number} was not acknowledged",
                    provider="fal",
                    money="none spent",
                )
            return {"partNumber": number, "etag": etag}

        count = -(-file.size_bytes // self.sizes.part)
        parts = await _all([send(number) for number in range(1, count + 1)])  # in the order of their numbers
        listed = json.dumps({"parts": parts}).encode()
        kind = {"Content-Type": "application/json"}
        await self._send("POST", _below(to, "complete"), listed, kind, file.name)
        return address

    async def _place(self, how: str, file: LocalFile) -> tuple[str, str]:
        """Return the address to upload to, and the address of the file after that."""
        wish = {"content_type": file.content_type, "file_name": _plain(file.name)}
        url = f"{self.rest}/storage/upload/{how}"
        answer = await self.api.call(CHEAP, "POST", url, params=_STORAGE, body=wish)
        to, address = answer.data.get("upload_url"), answer.data.get("file_url")
        if not _is_address(to) or not _is_address(address):
            message = f"uploading {file.name}: fal named no place for it"
            raise UnreachableError(message, provider="fal", money="none spent")
        return str(to), str(address)

    async def _send(
        self, method: str, url: str, data: bytes, headers: Mapping[str, str], name: str
    ) -> httpx.Response:
        """Send a request, and return its answer, read and closed. Retries as the policy CHEAP says."""

        async def once() -> httpx.Response:
            request = httpx.Request(
                method,
                url,
                content=data,
                headers={"User-Agent": "wan-duet", "Accept-Encoding": "identity", **headers},
                extensions={"timeout": self.timeouts.as_dict()},
            )
            try:
                response = await self.cdn.transport.handle_async_request(request)
                await response.aclose()
            except httpx.TransportError as error:
                reason = one_line(f"{type(error).__name__} {error}")
                raise CallFailedError(failure_kind_of_error(error), reason, "fal") from None
            except DownloadError as error:
                raise RefusedError(f"uploading {name}: {error}", provider="fal") from None
            failure_kind = failure_kind_of_status(response.status_code)
            if failure_kind is not None:
                asked = retry_after_s(response.headers.get("retry-after"))
                reason = f"answered {response.status_code}"
                raise CallFailedError(failure_kind, reason, "fal", retry_after_s=asked)
            return response

        return await repeat(once, CHEAP, self.timing)

    # ---- what lies there already

    def _name(self, file: LocalFile) -> str:
        return f"{self.account}:{file.sha256}"

    def _remembered(self) -> dict[str, str]:
        if self.folder is None:
            return {}
        try:
            content = json.loads((self.folder / _MEMORY).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}  # then it is uploaded again
        return (
            {name: url for name, url in content.items() if isinstance(url, str)}
            if isinstance(content, dict)
            else {}
        )

    def _remember(self, file: LocalFile, address: str) -> None:
        """Record the uploads in a file that only its owner can read.

        An address is sufficient to read an upload.
        """
        if self.folder is None:
            return
        known = {**self._remembered(), self._name(file): address}
        newest = dict(list(known.items())[-_MOST_REMEMBERED:])
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self.folder / _MEMORY, json.dumps(newest))
        except OSError as error:
            log.warning("%s: the upload cannot be recorded: %s", self.folder, error.strerror or error)


async def _all(work: list[Any]) -> list[Any]:
    """Return the values in order. The first error cancels the others, and is raised when they have ended."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait(tasks)


def _is_address(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(httpx.URL(value).host)
    except httpx.InvalidURL:
        return False


def _below(url: str, name: str) -> str:
    """Return `url` with one more path segment. Its query, which is a signature, is kept."""
    parsed = httpx.URL(url)
    path, _, query = parsed.raw_path.decode("ascii").partition("?")
    return str(parsed.copy_with(raw_path=f"{path}/{name}{'?' if query else ''}{query}".encode("ascii")))


def _plain(name: str) -> str:
    """Return a file name without characters that need escaping in an address."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[-80:] or "file"
