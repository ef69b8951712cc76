"""What the jobs panel shows of batches and does with them: the same as `wan-duet batch status|cancel|retry`.

    GET  /wan_duet/batches                              -> {"batches": [the last changed first], ...}
    GET  /wan_duet/batches/fleet                        -> how far the jobs of Run Fleet are, or null
    POST /wan_duet/batches/cancel|retry {"batch": NAME} -> {"rows": how many}

`own_page` guards all of them: an error may quote a prompt, and what a cancelled row has begun is lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from .own_page import answer, read_body, refusal, require_own_page

__all__ = ["add_batch_routes"]

_INSTEAD = "batches are shown on ComfyUI's own page, or by wan-duet batch status"


def add_batch_routes(
    routes: web.RouteTableDef, output: Callable[[], Path], settings: Callable[[], Path]
) -> None:
    """Add the routes. output: folder in which batches are looked for. settings: folder of fleet.json."""

    @routes.get("/wan_duet/batches")
    async def tell(request: web.Request) -> web.Response:
        from ..pipelines.fleet.found_batches import list_batches

        require_own_page(request, _INSTEAD)
        return await answer(lambda: list_batches(output(), time.time()))

    @routes.get("/wan_duet/batches/fleet")
    async def tell_of_fleet(request: web.Request) -> web.Response:
        from ..pipelines.service.fleet_progress import fleet_progress

        require_own_page(request, _INSTEAD)
        return await answer(lambda: fleet_progress(settings(), time.time()))

    @routes.post("/wan_duet/batches/{action:cancel|retry}")
    async def act(request: web.Request) -> web.Response:
        from ..pipelines.fleet.found_batches import cancel_batch, retry_batch

        body = await read_body(request, _INSTEAD, "batch")
        name = body["batch"]
        if not isinstance(name, str) or not name:
            raise refusal(web.HTTPBadRequest, "batch: give the name of a batch, as it is listed")
        change = cancel_batch if request.match_info["action"] == "cancel" else retry_batch
        return await answer(lambda: {"rows": change(output(), name)})
