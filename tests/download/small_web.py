"""A web on one loopback socket: several host names, real HTTP, and everything that was asked of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

__all__ = ["PUBLIC", "Asked", "Loopback", "Reply", "Site", "served"]

PUBLIC = "93.184.215.14"


@dataclass
class Asked:
    host: str
    path: str
    headers: Mapping[str, str]


@dataclass
class Reply:
    """breaks_after: the connection ends after so many bytes, and not before `pause` is set.
    chunked:      no length is told.
    """

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    breaks_after: int | None = None
    chunked: bool = False
    pause: threading.Event | None = None


class Site:
    """What the web holds: {(host, path without query): what answers}."""

    def __init__(self) -> None:
        self.pages: dict[tuple[str, str], Callable[[Asked], Reply]] = {}
        self.asked: list[Asked] = []
        self.port = 0

    def file(self, host: str, path: str, body: bytes, **headers: str) -> None:
        """A file that can be continued when it has an ETag, as large files of real hosts can."""
        self.pages[host, path] = lambda asked: ranged(body, asked, headers)

    def reply(self, host: str, path: str, *replies: Reply) -> None:
        """The replies one after another, the last one for ever."""
        left = list(replies)
        self.pages[host, path] = lambda _: left.pop(0) if len(left) > 1 else left[0]

    def redirect(self, host: str, path: str, to: str, status: int = 302) -> None:
        self.reply(host, path, Reply(status=status, headers={"Location": to}))


def ranged(body: bytes, asked: Asked, headers: Mapping[str, str]) -> Reply:
    wanted = asked.headers.get("Range")
    same = "ETag" in headers and asked.headers.get("If-Range") == headers["ETag"]
    if wanted is None or not same:
        return Reply(body, 200, headers)
    begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
    if begin >= len(body):
        return Reply(b"", 416, headers)
    spread = f"bytes {begin}-{len(body) - 1}/{len(body)}"
    return Reply(body[begin:], 206, {**headers, "Content-Range": spread})


class Loopback(httpx.BaseTransport):
    """Stands where the internet begins: whatever numeric address is called, the test server answers."""

    def __init__(self, site: Site) -> None:
        self.site, self.called = site, list[httpx.Request]()
        self._real = httpx.HTTPTransport(limits=httpx.Limits(max_keepalive_connections=0))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.called.append(request)
        url = request.url.copy_with(scheme="http", host="127.0.0.1", port=self.site.port)
        extensions = {name: value for name, value in request.extensions.items() if name != "sni_hostname"}
        return self._real.handle_request(
            httpx.Request(request.method, url, headers=request.headers, extensions=extensions)
        )


@contextmanager
def served() -> Iterator[Site]:
    made = Site()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = Asked(self.headers["Host"], self.path, dict(self.headers))
            made.asked.append(asked)
            page = made.pages.get((asked.host, self.path.partition("?")[0]))
            reply = page(asked) if page else Reply(b"nothing here", 404)
            self.send_response(reply.status)
            length = {} if reply.chunked else {"Content-Length": str(len(reply.body))}
            for name, value in {**length, "Connection": "close", **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.close_connection = True
            self.wfile.write(reply.body if reply.breaks_after is None else reply.body[: reply.breaks_after])
            if reply.pause is not None:
                self.wfile.flush()
                reply.pause.wait(60)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
