"""How keys get from the settings of ComfyUI into their file. They never come back.

    GET  /wan_duet/keys                           -> {"fal": "environment" | "file" | null, ...}
    POST /wan_duet/keys       {"provider", "key"} -> the same; an empty key takes that of the file away
    POST /wan_duet/keys/test  {"provider"}        -> {"accepted": true | false}; spends nothing

What goes wrong is answered with 400 and {"error": what the user may do}.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from ..pipelines.errors import WanDuetError
from ..pipelines.remote.keys import PROVIDERS, forget_key, keep_key, where_keys_are

__all__ = ["add_key_routes"]

_LONGEST = 4096  # bytes of a body

AcceptsKey = Callable[[str], bool]  # asks a provider, which takes a while


def add_key_routes(routes: web.RouteTableDef, folder: Callable[[], Path], accepts_key: AcceptsKey) -> None:
    """folder: where the keys are kept. accepts_key: whether a provider takes the key that is set for it."""

    @routes.get("/wan_duet/keys")
    async def tell(_: web.Request) -> web.Response:
        return await _answer(lambda: where_keys_are(folder()))

    @routes.post("/wan_duet/keys")
    async def keep(request: web.Request) -> web.Response:
        given = await _given(request, "provider", "key")

        def change() -> object:
            if given["key"].strip():
                keep_key(given["provider"], given["key"], folder())
            else:
                forget_key(given["provider"], folder())
            return where_keys_are(folder())

        return await _answer(change)

    @routes.post("/wan_duet/keys/test")
    async def test(request: web.Request) -> web.Response:
        given = await _given(request, "provider")
        return await _answer(lambda: {"accepted": accepts_key(given["provider"])})


async def _answer(work: Callable[[], object]) -> web.Response:
    """`work` reads files or asks a provider, so it is done beside the server's loop."""
    try:
        return web.json_response(await asyncio.to_thread(work))
    except WanDuetError as error:
        raise _refusal(web.HTTPBadRequest, str(error)) from None


async def _given(request: web.Request, *names: str) -> dict[str, str]:
    """The texts of a JSON body. Raises the refusal of anything that a page of another site could send."""
    _require_own_page(request)
    if request.content_length is None or request.content_length > _LONGEST:
        raise _refusal(web.HTTPBadRequest, f"give a body of at most {_LONGEST} bytes")
    try:
        body: Any = await request.json()
    except (ValueError, RecursionError):
        body = None  # neither it nor the error goes into a message: the text may hold a key
    if (
        not isinstance(body, dict)
        or set(body) != set(names)
        or not all(isinstance(v, str) for v in body.values())
    ):
        raise _refusal(web.HTTPBadRequest, f"give JSON with the texts {', '.join(names)}")
    if body["provider"] not in PROVIDERS:
        raise _refusal(web.HTTPBadRequest, f"provider: give one of {', '.join(PROVIDERS)}")
    return body


def _require_own_page(request: web.Request) -> None:
    """ComfyUI looks at the origin too, but not with --enable-cors-header, and on loopback addresses only.

    A browser says where a page comes from, and sends this type of content to no other site without asking.
    """
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site", "none")
    foreign = (
        origin is not None and urlsplit(origin).netloc.lower() != request.headers.get("Host", "").lower()
    )
    if foreign or site not in ("same-origin", "none"):
        raise _refusal(web.HTTPForbidden, "keys are set from ComfyUI's own page, or by wan-duet keys set")
    if request.content_type != "application/json":
        raise _refusal(web.HTTPUnsupportedMediaType, "send application/json")


def _refusal(kind: type[web.HTTPError], text: str) -> web.HTTPError:
    return kind(text=json.dumps({"error": text}), content_type="application/json")
