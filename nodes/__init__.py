"""Gives ComfyUI its nodes. The only folder that imports ComfyUI.

A node turns inputs into arguments, calls one function of `pipelines`, and turns its result into outputs.
Code that needs no ComfyUI for this (widgets, conditioning, latents, listing) is in files of its own.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ..pipelines import errors
from .installed_packages import explaining_missing_packages, missing_packages, what_is_missing

if TYPE_CHECKING:
    from .comfy_interface import ComfyExtension

__all__ = ["extension", "shorten_error_names", "warn_of_missing_packages"]

log = logging.getLogger(__name__)


def warn_of_missing_packages() -> None:
    """Log which packages are missing, before anything that may need them is imported."""
    missing = missing_packages()
    if missing:
        log.error("%s", what_is_missing(missing))


def shorten_error_names() -> None:
    """Make ComfyUI show errors as `wan_duet.ModelError`.

    The module name of the pack starts with the path of its folder, which would push the message out of sight.
    """
    for value in vars(errors).values():
        if isinstance(value, type) and issubclass(value, errors.WanDuetError):
            value.__module__ = "wan_duet"


def extension() -> ComfyExtension:
    """Return the pack for ComfyUI. Imports ComfyUI only here, so that tests of other modules need none."""
    from server import PromptServer

    from .batch_routes import add_batch_routes
    from .comfy_interface import ComfyExtension, io
    from .companions import WanDuetPromptExpander, WanDuetSafetyChecker
    from .compare_loras import WanDuetLoraBench
    from .files import output_folder
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
    from .prompt_list import WanDuetPromptList
    from .remote import RUNNERS, WanDuetJob, runner_node
    from .remote_jobs import accepts_key, follow_job, go_on_with_open_jobs, remote_folder
    from .request import request_node
    from .request_json import WanDuetRequestJson
    from .request_local import WanDuetRequestLocal
    from .run import WanDuetCheck, WanDuetRunLocal
    from .run_fleet import WanDuetRunFleet
    from .sample import WanDuetStageSampler, WanDuetTwoStageSampler
    from .save_video import (
        WanDuetKeepVideo,
        WanDuetSaveEncoded,
        WanDuetSaveInterpolated,
        WanDuetSaveRendered,
    )
    from .sheet import WanDuetContactSheet
    from .shot_list import WanDuetShot, WanDuetShots
    from .tasks import REQUEST_NODES
    from .to_comfy import WanDuetToComfy
    from .train import WanDuetTrainLora
    from .video import WanDuetDecode, WanDuetEncodeVideo, WanDuetRenderVideo

    shorten_error_names()

    class Extension(ComfyExtension):
        async def on_load(self) -> None:
            routes = PromptServer.instance.routes
            add_key_routes(routes, remote_folder, accepts_key)
            add_model_routes(routes, remote_folder, model_folders)
            add_lora_routes(routes, listed_lora)
            add_job_routes(routes, remote_folder, follow_job)
            add_batch_routes(routes, output_folder, remote_folder)
            go_on_with_open_jobs()

        async def get_node_list(self) -> list[type[io.ComfyNode]]:
            nodes: list[type[io.ComfyNode]] = [
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
                WanDuetSaveRendered,
                WanDuetSaveEncoded,
                WanDuetSaveInterpolated,
                WanDuetKeepVideo,
                WanDuetRequestLocal,
                WanDuetRequestJson,
                WanDuetPromptList,
                WanDuetShots,
                WanDuetShot,
                WanDuetTrainLora,
                WanDuetRunFleet,
                WanDuetLoraBench,
            ]
            return [explaining_missing_packages(node) for node in nodes]

    return Extension()
