"""Defines the node that converts a model of this pack for ComfyUI's samplers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .comfy_interface import io
from .sockets import WanModelSocket

if TYPE_CHECKING:
    from ..pipelines.loading.host_model import AnyModel


class WanDuetToComfy(io.ComfyNode):
    """Converts WAN_MODEL to MODEL, MODEL, CLIP and VAE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetToComfy",
            display_name="Wan Duet Model to ComfyUI",
            category="Wan Duet/blocks",
            description="Converts a model, with its LoRAs, for the samplers of ComfyUI and other packs. An "
            "output that ComfyUI cannot load names the reason, and stops only the nodes connected to it.",
            search_aliases=["wan duet to model", "export model", "ksampler", "bridge"],
            inputs=[
                WanModelSocket.Input("model", tooltip="The model to convert."),
                io.Boolean.Input(
                    "materialise",
                    default=False,
                    tooltip="On: formats that ComfyUI does not read, such as GGUF, are dequantised to "
                    "bfloat16 in main memory. Off: such an output states how much memory that needs.",
                ),
            ],
            outputs=[
                io.Model.Output("high", tooltip="The high-noise expert, or the only one."),
                io.Model.Output("low", tooltip="The low-noise expert."),
                io.Clip.Output("clip", tooltip="The text encoder."),
                io.Vae.Output("vae", tooltip="The VAE."),
            ],
        )

    @classmethod
    def execute(cls, model: AnyModel, materialise: bool) -> io.NodeOutput:
        from ..pipelines.generate.gpu_choice import require_one_device
        from ..pipelines.loading.host_model import HostModel
        from .host_model.export import core_clip, core_expert, core_vae

        require_one_device(model)
        if isinstance(model, HostModel):
            return io.NodeOutput(*model.networks.sockets())
        experts = (core_expert(model, name, materialise) for name in ("high", "low"))
        return io.NodeOutput(*experts, core_clip(model), core_vae(model))
