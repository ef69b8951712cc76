"""The request nodes, one per task."""

from __future__ import annotations

from typing import Any

from ..pipelines.request import bind_task
from .comfy_interface import io
from .inputs import field_inputs
from .media import from_socket
from .sockets import WanRequestSocket
from .tasks import RequestNode
from .widgets import chosen, fields_of, socket_of


def request_node(node: RequestNode) -> type[io.ComfyNode]:
    """Create the request node of a task, with every field of all its kinds."""
    media = {row.name: row.media for row in fields_of(node.task).values() if row.media is not None}
    sockets = {socket_of(fields_of(node.task)[field]): field for field in media}

    class Request(io.ComfyNode):
        @classmethod
        def define_schema(cls) -> io.Schema:
            return io.Schema(
                node_id=node.node_id,
                display_name=node.display_name,
                category="Wan Duet/request",
                description=node.description,
                search_aliases=list(node.search_aliases),
                inputs=field_inputs(node.task, node.fields),
                outputs=[
                    WanRequestSocket.Output("request", tooltip="The request; every field has been validated.")
                ],
            )

        @classmethod
        def execute(cls, **settings: Any) -> io.NodeOutput:
            connected = {
                field: from_socket(field, media[field], settings[socket])
                for socket, field in sockets.items()
                if settings.get(socket) is not None
            }
            return io.NodeOutput(bind_task(node.task, chosen(node.task, settings), connected))

    Request.__name__ = Request.__qualname__ = node.node_id
    return Request
