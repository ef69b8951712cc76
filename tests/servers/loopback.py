"""What the loopback servers have in common: a port, a script of faults, a place for files, and a record."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import web

from .cdn import Cdn
from .faults import Script, connection

Server = TypeVar("Server", bound="Loopback")


@dataclass
class Loopback:
    """key:  the only one that is let in; None lets every key in, if its scheme is right.
    data: the file that comes out of every job, instead of a real one.
    seen: method, path and query of every request. ports: of the client, one for each connection it makes.
    """

    key: str | None = None
    data: bytes | None = None
    script: Script = field(default_factory=Script)
    seen: list[tuple[str, str]] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    most_connections: int = 0
    url: str = ""

    def __post_init__(self) -> None:
        self.cdn = Cdn(self.script)

    def routes(self) -> list[web.RouteDef]:
        raise NotImplementedError

    def summary(self) -> dict[str, int]:
        """What has happened, for a test in another process."""
        raise NotImplementedError

    async def __aenter__(self: Server) -> Server:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self: Server, port: int = 0) -> Server:
        app = web.Application(client_max_size=2**30, middlewares=[self._note])
        app.add_routes([web.get("/_seen", self._tell), *self.cdn.routes(), *self.routes()])
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def stop(self) -> None:
        self.script.released.set()
        await self._runner.cleanup()

    async def _tell(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({**self.summary(), "leaks": self.cdn.leaks, "calls": self.script.calls})

    @web.middleware
    async def _note(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.path != "/_seen":
            self.seen.append((request.method, request.path_qs))
            self.ports.append(connection(request).get_extra_info("peername")[1])
        if self._runner.server is not None:
            self.most_connections = max(self.most_connections, len(self._runner.server.connections))
        answer: web.StreamResponse = await handler(request)
        return answer


def run_by_hand(provider: str, make: Callable[[str | None], Loopback], port: int) -> None:
    """Serve until the process is ended. Prints what belongs into providers.json."""
    parser = argparse.ArgumentParser(
        description=f"{provider} on this machine, for trying things without a key."
    )
    parser.add_argument("--port", type=int, default=port)
    parser.add_argument("--key", help="the only key that is let in; without it every key is")
    given = parser.parse_args()

    async def serve() -> None:
        server = await make(given.key).start(given.port)
        print(json.dumps({provider: server.url, "allow_loopback": True}), flush=True)  # noqa: T201
        await asyncio.Event().wait()

    asyncio.run(serve())
