"""The request nodes, one per task."""

from __future__ import annotations

from typing import Any

from ..pipelines.request import FieldRow, bind_task
from .comfy_interface import io
from .inputs import field_inputs
from .media import SocketMedium, from_socket
from .sockets import WanRequestSocket
from .tasks import RequestNode
from .widgets import chosen, fields_of, sockets_of


def request_node(node: RequestNode) -> type[io.ComfyNode]:
    """Create the request node of a task, with every field of all its kinds."""
    media = [row for row in fields_of(node.task).values() if row.media is not None]

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
            connected: dict[str, SocketMedium] = {}
            for row in media:
                for socket, field in sockets_of(row).items():
                    if (value := settings.get(socket)) is not None:
                        connected |= _media(row, field, value)
            return io.NodeOutput(bind_task(node.task, chosen(node.task, settings), connected))

    Request.__name__ = Request.__qualname__ = node.node_id
    return Request


def _media(row: FieldRow, field: str, value: Any) -> dict[str, SocketMedium]:
    """Return {field or entry: medium} of what is connected. A batch fills a list of images."""
    medium = str(row.media)
    if not row.is_list or medium != "image":
        return {field: from_socket(field, medium, value)}
    return {
        f"{field}[{index}]": from_socket(field, medium, value[index : index + 1])
        for index in range(len(value))
    }
