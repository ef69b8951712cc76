"""How keys get from the settings of ComfyUI into their file. They never come back.

    GET  /wan_duet/keys                           -> {"fal": "environment" | "file" | null, ...}
    POST /wan_duet/keys       {"provider", "key"} -> the same; an empty key takes that of the file away
    POST /wan_duet/keys/test  {"provider"}        -> {"accepted": true | false}; spends nothing

What goes wrong is answered with 400 and {"error": what the user may do}.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from ..pipelines.remote.keys import PROVIDERS, forget_key, keep_key, where_keys_are
from .own_page import answer, read_body, refusal

__all__ = ["add_key_routes"]

AcceptsKey = Callable[[str], bool]  # asks a provider, which takes a while


def add_key_routes(routes: web.RouteTableDef, folder: Callable[[], Path], accepts_key: AcceptsKey) -> None:
    """Add the routes.

    folder: of the keys. accepts_key: asks a provider whether it accepts the current key.
    """

    @routes.get("/wan_duet/keys")
    async def tell(_: web.Request) -> web.Response:
        return await answer(lambda: where_keys_are(folder()))

    @routes.post("/wan_duet/keys")
    async def keep(request: web.Request) -> web.Response:
        texts = await _texts(request, "provider", "key")

        def change() -> object:
            if texts["key"].strip():
                keep_key(texts["provider"], texts["key"], folder())
            else:
                forget_key(texts["provider"], folder())
            return where_keys_are(folder())

        return await answer(change)

    @routes.post("/wan_duet/keys/test")
    async def test(request: web.Request) -> web.Response:
        texts = await _texts(request, "provider")
        return await answer(lambda: {"accepted": accepts_key(texts["provider"])})


async def _texts(request: web.Request, *names: str) -> dict[str, str]:
    """Read the texts of a JSON body. Raises unless one of them is a provider."""
    body = await read_body(request, "keys are set from ComfyUI's own page, or by wan-duet keys set", *names)
    if not all(isinstance(value, str) for value in body.values()):
        raise refusal(web.HTTPBadRequest, f"give JSON with the texts {', '.join(names)}")
    if body["provider"] not in PROVIDERS:
        raise refusal(web.HTTPBadRequest, f"provider: give one of {', '.join(PROVIDERS)}")
    return body
