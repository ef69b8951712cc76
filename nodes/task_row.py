"""Describes one request node."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["RequestNode", "request_node_row"]


class RequestNode(NamedTuple):
    """A request node. fields: of all kinds of the task, in the order of the inputs, without `loras`."""

    node_id: str
    display_name: str
    task: str
    description: str
    search_aliases: tuple[str, ...]
    fields: tuple[str, ...]


def request_node_row(
    node_id: str, display_name: str, task: str, description: str, aliases: str, fields: str
) -> RequestNode:
    return RequestNode(
        node_id, display_name, task, description, tuple(aliases.split(", ")), tuple(fields.split())
    )
