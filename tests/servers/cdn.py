"""Where a provider keeps files: uploads by signed addresses, downloads in parts. No key may come here."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

from .faults import KNOWN, Script, connection

_RANGE = re.compile(r"bytes=(\d+)-")


@dataclass
class Stored:
    data: bytes
    content_type: str
    weak: bool = False

    @property
    def etag(self) -> str:
        return ("W/" if self.weak else "") + f'"{hashlib.sha256(self.data).hexdigest()[:16]}"'


@dataclass
class Cdn:
    """leaks: every request here that carried a key."""

    script: Script
    files: dict[str, Stored] = field(default_factory=dict)
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    leaks: list[str] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)  # of the downloads, in their order
    signature: str = "alive"  # what a signed address has to carry now

    def routes(self) -> list[web.RouteDef]:
        return [
            web.put("/cdn/put/{name}", self._put),
            web.put("/cdn/parts/{name}/{number:\\d+}", self._put_part),
            web.post("/cdn/parts/{name}/complete", self._complete),
            web.get("/cdn/files/{name}", self._get),
            web.get("/cdn/signed/{name}", self._get_signed),
        ]

    def _look_for_keys(self, request: web.Request) -> None:
        if "Authorization" in request.headers:
            self.leaks.append(f"{request.method} {request.path}")

    async def _put(self, request: web.Request) -> web.StreamResponse:
        async def store(request: web.Request) -> web.StreamResponse:
            if request.query.get("signature") != "upload":
                return web.Response(status=403)
            self.files[request.match_info["name"]] = Stored(await request.read(), request.content_type)
            return web.Response()

        self._look_for_keys(request)
        return await self.script.serve("upload", request, store)

    async def _put_part(self, request: web.Request) -> web.StreamResponse:
        async def store(request: web.Request) -> web.StreamResponse:
            if request.query.get("signature") != "upload":
                return web.Response(status=403)
            part = await request.read()
            self.parts.setdefault(request.match_info["name"], {})[int(request.match_info["number"])] = part
            return web.Response(headers={"ETag": Stored(part, "").etag})

        self._look_for_keys(request)
        return await self.script.serve("part", request, store)

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        async def join(request: web.Request) -> web.StreamResponse:
            name = request.match_info["name"]
            listed = (await request.json())["parts"]
            numbers = [part["partNumber"] for part in listed]
            kept = self.parts.get(name, {})
            if numbers != sorted(kept) or numbers != list(range(1, len(numbers) + 1)):
                return web.json_response({"detail": f"parts are not in order: {numbers}"}, status=400)
            if [part["etag"] for part in listed] != [Stored(kept[number], "").etag for number in numbers]:
                return web.json_response({"detail": "an ETag is not the part's"}, status=400)
            data = b"".join(kept[number] for number in numbers)
            self.files[name] = Stored(data, "application/octet-stream")
            return web.json_response({})

        self._look_for_keys(request)
        return await self.script.serve("complete", request, join)

    async def _get_signed(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("signature") != self.signature:
            return web.Response(status=403, text="<Error><Code>AccessDenied</Code></Error>")
        return await self._get(request)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        self._look_for_keys(request)
        self.ranges.append(request.headers.get("Range"))
        stored = self.files.get(request.match_info["name"])
        if stored is None:
            return web.Response(status=404)
        fault = self.script.due("download")
        if fault is not None and fault.name in DOWNLOADS:
            return await DOWNLOADS[fault.name](request, stored)
        return await self.script.play(fault, request, lambda request: _send(request, stored))


async def _send(request: web.Request, stored: Stored, *, ignore_range: bool = False) -> web.StreamResponse:
    begin, total = _begin(request, stored), len(stored.data)
    if ignore_range:
        begin = 0
    if begin >= total > 0:
        return web.Response(status=416, headers={"Content-Range": f"bytes */{total}"})
    digest = base64.b64encode(hashlib.md5(stored.data, usedforsecurity=False).digest()).decode()
    headers = {"ETag": stored.etag, "Accept-Ranges": "bytes", "x-goog-hash": f"crc32c=AAAAAA==,md5={digest}"}
    if begin:
        headers["Content-Range"] = f"bytes {begin}-{total - 1}/{total}"
    return web.Response(
        status=206 if begin else 200,
        body=stored.data[begin:],
        content_type=stored.content_type,
        headers=headers,
    )


def _begin(request: web.Request, stored: Stored) -> int:
    found = _RANGE.fullmatch(request.headers.get("Range", ""))
    fresh = request.headers.get("If-Range", stored.etag) == stored.etag
    return int(found[1]) if found and fresh else 0


async def _cut_body(request: web.Request, stored: Stored) -> web.StreamResponse:
    """Half of what was asked for, then the connection ends."""
    begin, total = _begin(request, stored), len(stored.data)
    headers = {"ETag": stored.etag, "Content-Length": str(total - begin), "Content-Type": stored.content_type}
    if begin:
        headers["Content-Range"] = f"bytes {begin}-{total - 1}/{total}"
    answer = web.StreamResponse(status=206 if begin else 200, headers=headers)
    await answer.prepare(request)
    await answer.write(stored.data[begin : begin + (total - begin) // 2])
    await asyncio.sleep(0)
    connection(request).close()
    return answer


async def _endless(request: web.Request, stored: Stored) -> web.StreamResponse:
    """No length is told, and it does not end by itself."""
    answer = web.StreamResponse(headers={"Content-Type": stored.content_type})
    answer.enable_chunked_encoding()
    await answer.prepare(request)
    await answer.write(stored.data)
    while True:
        await answer.write(b"\0" * 65536)  # raises once the client has gone


async def _wrong_range(request: web.Request, stored: Stored) -> web.StreamResponse:
    total = len(stored.data)
    return web.Response(
        status=206,
        body=stored.data[1:],
        headers={"ETag": stored.etag, "Content-Range": f"bytes 1-{total - 1}/{total}"},
    )


async def _short_range(request: web.Request, stored: Stored) -> web.StreamResponse:
    """A right part, and not all that was asked for."""
    begin, total = _begin(request, stored), len(stored.data)
    end = begin + (total - begin) // 2
    headers = {"ETag": stored.etag, "Content-Range": f"bytes {begin}-{end - 1}/{total}"}
    return web.Response(status=206, body=stored.data[begin:end], headers=headers)


async def _page(request: web.Request, stored: Stored) -> web.StreamResponse:
    return web.Response(text="<html>sign in</html>", content_type="text/html")


async def _too_long(request: web.Request, stored: Stored) -> web.StreamResponse:
    """The length says more than any cap allows; nothing of it is sent."""
    answer = web.StreamResponse(headers={"Content-Type": stored.content_type, "Content-Length": str(2**40)})
    await answer.prepare(request)
    connection(request).close()
    return answer


def _redirect(location: str) -> Callable[[web.Request, Stored], Awaitable[web.StreamResponse]]:
    async def answer(request: web.Request, stored: Stored) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": location})

    return answer


async def _redirect_here(request: web.Request, stored: Stored) -> web.StreamResponse:
    return web.Response(status=302, headers={"Location": str(request.url)})


async def _squeezed(request: web.Request, stored: Stored) -> web.StreamResponse:
    answer = web.Response(body=stored.data, content_type=stored.content_type)
    answer.enable_compression(web.ContentCoding.gzip)
    return answer


async def _damaged(request: web.Request, stored: Stored) -> web.StreamResponse:
    """As long as it should be, with a byte that has changed."""
    answer = await _send(request, stored)
    assert isinstance(answer, web.Response)
    assert isinstance(answer.body, bytes)
    answer.body = answer.body[:-1] + bytes([answer.body[-1] ^ 1])
    return answer


async def _ignore_range(request: web.Request, stored: Stored) -> web.StreamResponse:
    return await _send(request, stored, ignore_range=True)


DOWNLOADS: dict[str, Callable[[web.Request, Stored], Awaitable[web.StreamResponse]]] = {
    "cut body": _cut_body,
    "endless": _endless,
    "too long": _too_long,
    "wrong range": _wrong_range,
    "ignore range": _ignore_range,
    "damaged": _damaged,
    "short range": _short_range,
    "page": _page,
    "squeezed": _squeezed,
    "redirect to itself": _redirect_here,
    "redirect to the cloud's metadata": _redirect("https://169.254.169.254/latest/meta-data/"),
    "redirect to http": _redirect("http://example.com/x.mp4"),
    "redirect with a password": _redirect("https://user:secret@example.com/x.mp4"),
}
KNOWN.update(DOWNLOADS)
