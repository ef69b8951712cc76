"""What a route asks of a request before it changes anything: it comes from ComfyUI's page or a program."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from ..pipelines.errors import WanDuetError

__all__ = ["answer", "read_body", "refusal", "require_own_page"]

_LONGEST = 4096  # bytes of a body


async def answer(work: Callable[[], object]) -> web.Response:
    """`work` reads files or asks a provider, so it is done beside the server's loop."""
    try:
        return web.json_response(await asyncio.to_thread(work))
    except WanDuetError as error:
        raise refusal(web.HTTPBadRequest, str(error)) from None


async def read_body(
    request: web.Request, instead: str, *names: str, longest: int = _LONGEST
) -> dict[str, Any]:
    """The JSON table of a body with exactly these names. Raises the refusal of anything that a page of
    another site could send; `instead` says there where this is done. longest: bytes.
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

    ComfyUI looks at the origin too, but not with --enable-cors-header, and on loopback addresses only.

    A browser says where a page comes from, and sends JSON to no other site without asking.
    """
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site", "none")
    foreign = (
        origin is not None and urlsplit(origin).netloc.lower() != request.headers.get("Host", "").lower()
    )
    if foreign or site not in ("same-origin", "none"):
        raise refusal(web.HTTPForbidden, instead)
