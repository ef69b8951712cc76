"""Finds what the outputs of a node are connected to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from server import PromptServer

__all__ = ["is_read", "readers"]


def is_read(node_id: str | None, slot: int) -> bool:
    """Return whether an output of a node is connected in the graph that runs now.

    For fingerprints: ComfyUI gives them no hidden input but the node's id.
    """
    running, _ = PromptServer.instance.prompt_queue.get_current_queue_volatile()
    return any(readers(node_id, slot, prompt) for _number, _id, prompt, *_more in running)


def readers(node_id: str | None, slot: int, prompt: Mapping[str, Any]) -> list[str]:
    """Return the titles of the nodes that an output of a node is connected to."""
    link = [node_id, slot]
    return [
        item.get("_meta", {}).get("title") or item["class_type"]
        for item in prompt.values()
        if link in item["inputs"].values()
    ]
