"""Settings of this machine, on a request."""

from __future__ import annotations

from typing import Any

from ..pipelines.request import RequestWithMedia, with_local
from .comfy_interface import io
from .inputs import field_input
from .sockets import WanRequestSocket
from .widgets import local_chosen, local_widgets


class WanDuetRequestLocal(io.ComfyNode):
    """Adds settings that only this machine has to a request."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetRequestLocal",
            display_name="Wan Duet Request Local",
            category="Wan Duet/request",
            description="Adds settings to a request that only this machine has: its size in pixels, solver, "
            "steps of each expert, noise levels, guidance and LoRA strengths that change between steps, "
            "NAG, a negative prompt that acts at guidance scale 1, words for parts of the clip, context "
            "windows and RIFLEx for clips longer than the model was trained on, step caches, or container, "
            "codec and bit depth of the file. A provider refuses such a request.",
            search_aliases=[
                "nag",
                "normalized attention guidance",
                "cfg zero star",
                "negative prompt lightning",
                "width height",
                "solver",
                "boundary",
                "custom sigmas",
                "lora strength per expert",
                "context windows",
                "long video",
                "freenoise",
                "riflex",
                "phases",
                "three stages",
                "guidance schedule",
                "lora schedule",
                "prompt relay",
                "prompt per time range",
                "codec",
                "h265",
                "prores",
                "10 bit",
                "scene threshold",
                "step cache",
                "magcache",
                "easycache",
                "teacache",
            ],
            inputs=[
                WanRequestSocket.Input("request", tooltip="The request to add the settings to."),
                *map(field_input, local_widgets().values()),
            ],
            outputs=[WanRequestSocket.Output("request", tooltip="The request with these settings.")],
        )

    @classmethod
    def execute(cls, request: RequestWithMedia, **settings: Any) -> io.NodeOutput:
        return io.NodeOutput(request._replace(request=with_local(request.request, local_chosen(settings))))
