"""Nodes that say what is wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io

from ..pipelines.errors import RequestError
from ..pipelines.request import RequestWithMedia, bind_task, with_lora
from ..pipelines.request.descriptions import DESCRIPTIONS
from .inputs import field_inputs
from .listing import pick, stamp
from .media import from_socket
from .sockets import WanRequestSocket
from .tasks import LORAS, RequestNode
from .widgets import chosen, fields_of, socket_of

_NONE = "none"


def request_node(node: RequestNode) -> type[io.ComfyNode]:
    """The node that asks for a task, with every field of all its kinds."""
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
                    WanRequestSocket.Output("request", tooltip="What is wanted, checked field by field.")
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


class WanDuetRequestLora(io.ComfyNode):
    """One more LoRA on a request."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetRequestLora",
            display_name="Wan Duet Request LoRA",
            category="Wan Duet/request",
            description="Adds a LoRA to the request. Chain several for several LoRAs.",
            search_aliases=["wan lora", "lora high low", "request lora"],
            inputs=[
                WanRequestSocket.Input("request", tooltip="The request to add the LoRA to."),
                io.Combo.Input(
                    "file",
                    options=[_NONE, *folder_paths.get_filename_list("loras")],
                    default=_NONE,
                    tooltip="A LoRA file in models/loras. Choose none to give a path instead.",
                ),
                io.String.Input(
                    "path",
                    default="",
                    tooltip="Where else the LoRA is: a URL or a Hugging Face repository. Empty to use file.",
                ),
                io.String.Input("weight_name", default="", tooltip=DESCRIPTIONS["weight_name"]),
                io.Float.Input(
                    "scale",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.05,
                    round=0.001,
                    tooltip=DESCRIPTIONS["scale"],
                ),
                io.Combo.Input(
                    "transformer",
                    options=["high", "low", "both"],
                    default="high",
                    tooltip=DESCRIPTIONS["transformer"],
                ),
            ],
            outputs=[WanRequestSocket.Output("request", tooltip="The request with this LoRA.")],
        )

    @classmethod
    def validate_inputs(cls, file: str | None) -> bool | str:
        if file in (None, _NONE) or _pick(file) is not None:
            return True
        return f"{file} is not in models/loras; put it there and press R, or choose another"

    @classmethod
    def fingerprint_inputs(cls, file: str | None, **_others: Any) -> object:
        listed = None if file in (None, _NONE) else _pick(file)
        found = None if listed is None else folder_paths.get_full_path("loras", listed)
        return stamp(Path(found)) if found else None

    @classmethod
    def execute(
        cls, request: RequestWithMedia, file: str, path: str, weight_name: str, scale: float, transformer: str
    ) -> io.NodeOutput:
        if (file == _NONE) == (not path.strip()):
            found = "neither file nor path is given" if file == _NONE else "both file and path are given"
            raise RequestError.of("loras", found, "give one of the two")
        lora = {"path": path.strip() or file.replace("\\", "/"), "scale": scale}
        if _chooses_expert(request.request.task):
            lora["transformer"] = transformer
        elif transformer != "both":
            raise RequestError.of(
                "transformer",
                f"{request.request.kind} has no choice of the expert",
                "choose both, which is what its LoRAs change",
            )
        if weight_name.strip():
            lora["weight_name"] = weight_name.strip()
        return io.NodeOutput(request._replace(request=with_lora(request.request, lora)))


def _chooses_expert(task: str) -> bool:
    loras = fields_of(task).get(LORAS)
    return loras is None or any(row.name == "transformer" for row in loras.fields)


def _pick(file: str) -> str | None:
    """The name under which ComfyUI lists `file`."""
    return pick(file, {name: name for name in folder_paths.get_filename_list("loras")})
