"""Gives ComfyUI its nodes. The only folder that imports ComfyUI.

A node turns inputs into arguments, calls one function of `pipelines`, and turns its result into outputs.
Code that needs no ComfyUI for this (widgets, conditioning, latents, listing) is in files of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfy_api.latest import ComfyExtension

__all__ = ["extension"]


def extension() -> ComfyExtension:
    """The pack as ComfyUI wants it. ComfyUI is imported in here, so that tests of the rest do without."""
    from comfy_api.latest import ComfyExtension, io
    from server import PromptServer

    from .companions import WanDuetPromptExpander, WanDuetSafetyChecker
    from .from_comfy import WanDuetFromComfy
    from .image_condition import WanDuetImageCondition
    from .interpolate import WanDuetInterpolate
    from .job_routes import add_job_routes
    from .key_routes import add_key_routes
    from .lora import WanDuetLora, WanDuetRequestLora
    from .lora_files import listed_lora
    from .lora_routes import add_lora_routes
    from .model import WanDuetEncodePrompt, WanDuetLoadModel
    from .model_folders import model_folders
    from .model_routes import add_model_routes
    from .prepare import WanDuetEmptyLatent, WanDuetSigmas, WanDuetVideoCondition
    from .remote import RUNNERS, WanDuetJob, runner_node
    from .remote_jobs import accepts_key, follow_job, go_on_with_open_jobs, remote_folder
    from .request import request_node
    from .run import WanDuetCheck, WanDuetRunLocal
    from .sample import WanDuetStageSampler, WanDuetTwoStageSampler
    from .sheet import WanDuetContactSheet
    from .tasks import REQUEST_NODES
    from .to_comfy import WanDuetToComfy
    from .video import WanDuetDecode, WanDuetEncodeVideo, WanDuetRenderVideo

    class Extension(ComfyExtension):
        async def on_load(self) -> None:
            routes = PromptServer.instance.routes
            add_key_routes(routes, remote_folder, accepts_key)
            add_model_routes(routes, remote_folder, model_folders)
            add_lora_routes(routes, listed_lora)
            add_job_routes(routes, remote_folder, follow_job)
            go_on_with_open_jobs()

        async def get_node_list(self) -> list[type[io.ComfyNode]]:
            return [
                *(request_node(node) for node in REQUEST_NODES),
                WanDuetRequestLora,
                WanDuetRunLocal,
                *(runner_node(runner) for runner in RUNNERS),
                WanDuetJob,
                WanDuetCheck,
                WanDuetLoadModel,
                WanDuetLora,
                WanDuetEncodePrompt,
                WanDuetEmptyLatent,
                WanDuetImageCondition,
                WanDuetSigmas,
                WanDuetTwoStageSampler,
                WanDuetStageSampler,
                WanDuetDecode,
                WanDuetEncodeVideo,
                WanDuetRenderVideo,
                WanDuetInterpolate,
                WanDuetVideoCondition,
                WanDuetContactSheet,
                WanDuetPromptExpander,
                WanDuetSafetyChecker,
                WanDuetFromComfy,
                WanDuetToComfy,
            ]

    return Extension()
