"""What goes wrong between a client and a provider, told to a loopback server by route and number of the call.

    script = Script()
    script.plan("submit", "drop", after=True)     # the first submit creates the job, the answer is lost
    script.plan("status", "503 page", times=2)    # the first two status calls
    script.plan("download", "cut", first=2)       # the second download

`after` means: the server has done what it was asked for, and then the trouble starts.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_PAGE = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center><hr>nginx</body></html>"
_HUGE = " " * 9 * 2**20  # above every cap on JSON


@dataclass
class Planned:
    name: str
    after: bool
    first: int
    last: int


@dataclass
class Script:
    """The faults to come, and how often each route was called."""

    planned: dict[str, list[Planned]] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    released: asyncio.Event = field(default_factory=asyncio.Event)  # ends what stalls

    def plan(self, route: str, name: str, *, after: bool = False, first: int = 1, times: int = 1) -> None:
        if name not in KNOWN:
            raise ValueError(f"no fault is called {name!r}")
        self.planned.setdefault(route, []).append(Planned(name, after, first, first + times - 1))

    def due(self, route: str) -> Planned | None:
        """Counts a call of the route, and says what is to go wrong with it."""
        self.calls[route] += 1
        count = self.calls[route]
        return next((item for item in self.planned.get(route, ()) if item.first <= count <= item.last), None)

    async def serve(self, route: str, request: web.Request, handler: Handler) -> web.StreamResponse:
        return await self.play(self.due(route), request, handler)

    async def play(self, fault: Planned | None, request: web.Request, handler: Handler) -> web.StreamResponse:
        if fault is None:
            return await handler(request)
        await request.read()
        if fault.name in CHANGES:
            return await CHANGES[fault.name](request, await handler(request))
        if fault.after:
            await handler(request)
        if fault.name in ANSWERS:
            return ANSWERS[fault.name]()
        return await FAULTS[fault.name](request, self)


def connection(request: web.Request) -> asyncio.Transport:
    assert isinstance(request.transport, asyncio.Transport)
    return request.transport


async def _drop(request: web.Request, script: Script) -> web.StreamResponse:
    """The connection ends in good order, without an answer."""
    connection(request).close()
    return web.Response()


async def _reset(request: web.Request, script: Script) -> web.StreamResponse:
    transport = connection(request)
    linger = struct.pack("ii", 1, 0)  # on, for no time: closing sends RST
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    transport.abort()
    return web.Response()


async def _stall(request: web.Request, script: Script) -> web.StreamResponse:
    await script.released.wait()
    return await _drop(request, script)


async def _tell_the_key(request: web.Request, script: Script) -> web.StreamResponse:
    """A proxy or a program that crashed shows the request it got, headers and all."""
    given = request.headers.get("Authorization", "")
    text = {"detail": f"upstream failed: {given}", "message": given, "error_type": given, "reason": given}
    return web.json_response(text, status=503)


async def _cut(request: web.Request, script: Script) -> web.StreamResponse:
    """A JSON answer whose body breaks off."""
    answer = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "200"})
    await answer.prepare(request)
    await answer.write(b'{"request_id": "')
    connection(request).close()
    return answer


FAULTS: dict[str, Callable[[web.Request, Script], Awaitable[web.StreamResponse]]] = {
    "drop": _drop,
    "reset": _reset,
    "stall": _stall,
    "cut json": _cut,
    "tells the key": _tell_the_key,
}


def _json(status: int, body: Any, **headers: str) -> Callable[[], web.Response]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda: web.json_response(body, status=status, headers=named)


def _page(status: int, title: str) -> Callable[[], web.Response]:
    return lambda: web.Response(status=status, text=_PAGE.format(title), content_type="text/html")


ANSWERS: dict[str, Callable[[], web.Response]] = {
    "400": _json(400, {"detail": "Bad request", "error_type": "bad_request"}),
    "401": _json(401, {"detail": "Cannot access application. Authentication is required."}),
    "403": _json(403, {"detail": "User is locked. Reason: Exhausted balance."}),
    "404": _json(404, {"status": "NOT_FOUND", "detail": "not found"}),
    "408": _json(408, {"detail": "Request timeout"}),
    "409": _json(409, {"detail": "Conflict"}),
    "422": _json(
        422, {"detail": [{"loc": ["body", "prompt"], "msg": "flagged", "type": "content_policy_violation"}]}
    ),
    "425": _json(425, {"detail": "Too early"}),
    "429": _json(429, {"detail": "Too many requests", "error_type": "concurrent_requests_limit"}),
    "429 wait": _json(429, {"detail": "Too many requests"}, Retry_After="7"),
    "500": _json(500, {"detail": "Internal Server Error", "error_type": "internal_error"}),
    "502 page": _page(502, "502 Bad Gateway"),
    "503 page": _page(503, "503 Service Temporarily Unavailable"),
    "503 json": _json(
        503,
        {"detail": "No runner", "error_type": "runner_scheduling_failure"},
        x_fal_request_id="3f1c0000-0000-4000-8000-000000000000",
    ),
    "504 start": _json(
        504,
        {"detail": "Not started in time", "error_type": "startup_timeout"},
        X_Fal_Request_Timeout_Type="user",
    ),
    "504 page": _page(504, "504 Gateway Time-out"),
    "not json": lambda: web.Response(text="OK", content_type="application/json"),
    "empty": lambda: web.Response(body=b"", content_type="application/json"),
    "not an object": _json(200, ["request_id"]),
    "odd id": _json(200, {"request_id": "../a b\n", "task_id": ""}),
    "huge json": _json(
        200, {"request_id": "a", "task_id": "a", "status": "COMPLETED", "items": [], "a": _HUGE}
    ),
    "create failed": _json(
        500, {"code": 500, "reason": "CREATE_TASK_FAILED", "message": "create task failed", "metadata": {}}
    ),
    "moved": lambda: web.Response(status=308, headers={"Location": "https://example.com/"}),
    "redirect": lambda: web.Response(status=307, headers={"Location": "https://example.com/"}),
}


def _edited(change: Callable[[dict[str, Any]], None]) -> Callable[..., Awaitable[web.StreamResponse]]:
    """The server's own JSON answer with something different in it."""

    async def apply(request: web.Request, answer: web.StreamResponse) -> web.StreamResponse:
        assert isinstance(answer, web.Response)
        body = json.loads(answer.text or "{}")
        change(body)
        return web.json_response(body, status=answer.status)

    return apply


async def _repeated(request: web.Request, answer: web.StreamResponse) -> web.StreamResponse:
    """A success that repeats the key wherever a text may stand."""
    assert isinstance(answer, web.Response)
    given = request.headers.get("Authorization", "")
    body = json.loads(answer.text or "{}")
    body |= {"logs": [{"message": given}], "prompt": given, "note": given}
    return web.json_response(body, status=answer.status)


async def _spelled(request: web.Request, answer: web.StreamResponse) -> web.StreamResponse:
    """As "repeats the key", each character of it as an escape."""
    assert isinstance(answer, web.Response)
    given = "".join(f"\\u{ord(character):04x}" for character in request.headers.get("Authorization", ""))
    text = (answer.text or "{}")[:-1] + f', "prompt": "{given}", "logs": [{{"message": "{given}"}}]}}'
    return web.Response(text=text, status=answer.status, content_type="application/json")


async def _odd(request: web.Request, answer: web.StreamResponse) -> web.StreamResponse:
    """JSON that Python reads and nobody can write: half a character, and numbers that are none."""
    assert isinstance(answer, web.Response)
    odd = '"prompt": "half \\ud83d", "note": NaN, "more": [1e999, "\\ud83d\\ude00"]'
    text = (answer.text or "{}")[:-1] + f", {odd}}}"
    return web.Response(text=text, status=answer.status, content_type="application/json")


def _told_size(body: dict[str, Any]) -> None:
    for name in ("video", "image"):
        if name in body:
            body[name]["file_size"] = 3


CHANGES: dict[str, Callable[..., Awaitable[web.StreamResponse]]] = {
    "unknown word": _edited(lambda body: body.update(status="DREAMING")),
    "no extras": _edited(lambda body: [body.pop(name, None) for name in ("queue_position", "logs")]),
    "failed": _edited(
        lambda body: body.update(status="COMPLETED", error="out of memory", error_type="internal_error")
    ),
    "wrong size told": _edited(_told_size),
    "repeats the key": _repeated,
    "spells the key": _spelled,
    "odd text": _odd,
}

KNOWN = {*FAULTS, *ANSWERS, *CHANGES}  # cdn.py adds those of a download
