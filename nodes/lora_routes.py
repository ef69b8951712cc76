"""Answers what the table of LoRAs shows beside a file.

    GET /wan_duet/loras/about?file=NAME -> {"base", "expert", "triggers": [...]}

NAME is one that the LoRA nodes list. `own_page` guards it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from .own_page import answer, require_own_page

__all__ = ["add_lora_routes"]


def add_lora_routes(routes: web.RouteTableDef, find: Callable[[str], Path]) -> None:
    """Add the route. find: returns the file of a listed name, and raises WanDuetError for any other name."""

    @routes.get("/wan_duet/loras/about")
    async def about(request: web.Request) -> web.Response:
        require_own_page(request, "this is for ComfyUI's own page; see wan-duet lora inspect")
        name = request.query.get("file", "")
        return await answer(lambda: _about(find(name)))


def _about(file: Path) -> dict[str, object]:
    """Return base, expert and trigger words. The base comes from the shapes, else from header or JSON."""
    from ..pipelines.weights.lora.guess import guess_base, guess_expert
    from ..pipelines.weights.lora.lora_file import read_lora
    from ..pipelines.weights.lora.trigger_words import stated_about

    lora = read_lora(file)
    stated, guessed = stated_about(file, lora.metadata), guess_base(lora)
    return {
        "base": guessed.name if guessed.version or not stated.base else stated.base,
        "expert": guess_expert(lora).expert,
        "triggers": list(stated.triggers),
    }
