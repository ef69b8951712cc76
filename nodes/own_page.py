"""Checks that a request comes from ComfyUI's own page or a program, before a route changes anything."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from ..pipelines.errors import WanDuetError

__all__ = ["answer", "read_body", "refusal", "require_own_page"]

_LONGEST = 4096  # bytes of a body
_HOSTS = "WAN_DUET_HOSTS"  # environment: further names of this ComfyUI, with commas between them


async def answer(work: Callable[[], object]) -> web.Response:
    """Run `work` in a thread, because it reads files or calls a provider, and return its JSON."""
    try:
        return web.json_response(await asyncio.to_thread(work))
    except WanDuetError as error:
        raise refusal(web.HTTPBadRequest, str(error)) from None


async def read_body(
    request: web.Request, instead: str, *names: str, longest: int = _LONGEST
) -> dict[str, Any]:
    """Return the JSON object of a body that must have exactly these names.

    instead: tells where else this can be done. longest: bytes.

    Raises HTTPForbidden for anything that a page of another site could send.
    """
    require_own_page(request, instead)
    if request.content_type != "application/json":
        raise refusal(web.HTTPUnsupportedMediaType, "send application/json")
    if request.content_length is None or request.content_length > longest:
        raise refusal(web.HTTPBadRequest, f"give a body of at most {longest} bytes")
    try:
        body: Any = await request.json()
    except (ValueError, RecursionError):
        body = None  # neither it nor the error goes into a message: the text may hold a key
    if not isinstance(body, dict) or set(body) != set(names):
        raise refusal(web.HTTPBadRequest, f"give JSON with {', '.join(names)}")
    return body


def refusal(kind: type[web.HTTPError], text: str) -> web.HTTPError:
    return kind(text=json.dumps({"error": text}), content_type="application/json")


def require_own_page(request: web.Request, instead: str) -> None:
    """Raise HTTPForbidden with the text `instead` for a page of another site.

    ComfyUI checks the origin too, but not with --enable-cors-header, and only on loopback addresses.

    A browser names the origin of a page, and does not send JSON to another site without asking. But it
    treats a page as ComfyUI's own if its name was changed to lead here after it was opened (DNS rebinding).
    So the name must be one that nobody else can use.
    """
    host = request.headers.get("Host", "")
    if not _is_ours(host):
        raise refusal(
            web.HTTPForbidden,
            f"{instead}; this page calls ComfyUI {host[:80]!r}, which is neither an address nor localhost: "
            f"name it in {_HOSTS} if it is yours",
        )
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site", "none")
    foreign = (
        origin is not None and urlsplit(origin).netloc.lower() != request.headers.get("Host", "").lower()
    )
    if foreign or site not in ("same-origin", "none"):
        raise refusal(web.HTTPForbidden, instead)


def _is_ours(host: str) -> bool:
    """Whether a Host header has an address, localhost, the name of this machine, or one of WAN_DUET_HOSTS."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    with suppress(ValueError):
        ip_address(name)
        return True
    machine = socket.gethostname().lower()
    named = {one.strip().lower() for one in os.environ.get(_HOSTS, "").split(",")}
    return bool(name) and name in {"localhost", machine, f"{machine}.local"} | named
