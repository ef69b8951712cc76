"""The ComfyUI face of the pack; the only folder that imports ComfyUI.

A node turns sockets into arguments, calls one function of `pipelines`, and turns the answer into sockets.
What needs no ComfyUI for that (widgets, conditioning, latents, listing) lies beside the nodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfy_api.latest import ComfyExtension

__all__ = ["extension"]


def extension() -> ComfyExtension:
    """The pack as ComfyUI wants it. ComfyUI is imported in here, so that tests of the rest do without."""
    from comfy_api.latest import ComfyExtension, io

    from .interpolate import WanDuetInterpolate
    from .lora import WanDuetLora, WanDuetRequestLora
    from .model import WanDuetEncodePrompt, WanDuetLoadModel
    from .prepare import WanDuetEmptyLatent, WanDuetSigmas
    from .request import request_node
    from .run import WanDuetCheck, WanDuetRunLocal
    from .sample import WanDuetStageSampler, WanDuetTwoStageSampler
    from .tasks import REQUEST_NODES
    from .video import WanDuetDecode, WanDuetEncodeVideo, WanDuetRenderVideo

    class Extension(ComfyExtension):
        async def get_node_list(self) -> list[type[io.ComfyNode]]:
            return [
                *(request_node(node) for node in REQUEST_NODES),
                WanDuetRequestLora,
                WanDuetRunLocal,
                WanDuetCheck,
                WanDuetLoadModel,
                WanDuetLora,
                WanDuetEncodePrompt,
                WanDuetEmptyLatent,
                WanDuetSigmas,
                WanDuetTwoStageSampler,
                WanDuetStageSampler,
                WanDuetDecode,
                WanDuetEncodeVideo,
                WanDuetRenderVideo,
                WanDuetInterpolate,
            ]

    return Extension()
