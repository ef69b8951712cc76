"""A request from the JSON that the command line and the queue of a batch use."""

from __future__ import annotations

from ..pipelines.request.parse import parse, read_json
from ..pipelines.request.request_with_media import RequestWithMedia
from .comfy_interface import io
from .sockets import WanRequestSocket


class WanDuetRequestJson(io.ComfyNode):
    """Reads a request from JSON."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetRequestJson",
            display_name="Wan Duet Request JSON",
            category="Wan Duet/request",
            description="Reads a request from JSON, as the command line takes it: a row of a batch, or the "
            "request in a receipt.",
            search_aliases=["request from receipt", "paste request", "api request", "batch row"],
            inputs=[
                io.String.Input(
                    "json",
                    multiline=True,
                    default='{"prompt": ""}',
                    tooltip="One JSON object of fields. kind names the kind of request; without it "
                    "text-to-video. Media are addresses, or names of files in ComfyUI's input folder.",
                )
            ],
            outputs=[
                WanRequestSocket.Output("request", tooltip="The request; every field has been validated.")
            ],
        )

    @classmethod
    def execute(cls, json: str) -> io.NodeOutput:
        fields = dict(read_json(json.encode()))
        kind = str(fields.pop("kind", "text-to-video"))
        return io.NodeOutput(RequestWithMedia(parse(kind, fields), {}))
