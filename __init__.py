"""Wan Duet: a ComfyUI node pack for the Wan 2.2 video family.

ComfyUI imports this file under the name of the folder it lies in, so imports inside the pack are relative.
Importing it must stay free: the nodes, and with them pydantic, come when ComfyUI asks for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfy_api.latest import ComfyExtension

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> ComfyExtension:
    """What ComfyUI awaits to learn the nodes of the pack."""
    from .nodes import extension, warn_of_missing_packages

    warn_of_missing_packages()
    return extension()
