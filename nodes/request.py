"""Nodes that say what is wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io

from ..pipelines.errors import RequestError
from ..pipelines.request import RequestWithMedia, t2v_request
from ..pipelines.request.descriptions import DESCRIPTIONS
from .inputs import field_inputs
from .listing import pick, stamp
from .sockets import WanRequestSocket
from .widgets import TEXT_TO_VIDEO, chosen

_NONE = "none"


class WanDuetTextToVideo(io.ComfyNode):
    """All fields of text-to-video, with and without LoRA."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetTextToVideo",
            display_name="Wan Duet Text to Video",
            category="Wan Duet/request",
            description="Says which video you want. Connect it to a runner, which makes it.",
            search_aliases=["wan 2.2 t2v", "wan text to video", "prompt to video"],
            inputs=field_inputs("text-to-video", TEXT_TO_VIDEO),
            outputs=[WanRequestSocket.Output("request", tooltip="What is wanted, checked field by field.")],
        )

    @classmethod
    def execute(cls, **settings: Any) -> io.NodeOutput:
        return io.NodeOutput(RequestWithMedia(t2v_request(**chosen(settings))))


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
        lora = {"path": path.strip() or file.replace("\\", "/"), "scale": scale, "transformer": transformer}
        if weight_name.strip():
            lora["weight_name"] = weight_name.strip()
        values = request.request.payload()
        loras = [*values.get("loras", ()), lora]
        return io.NodeOutput(request._replace(request=t2v_request(**{**values, "loras": loras})))


def _pick(file: str) -> str | None:
    """The name under which ComfyUI lists `file`."""
    return pick(file, {name: name for name in folder_paths.get_filename_list("loras")})
