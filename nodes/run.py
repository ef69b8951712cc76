"""Nodes that carry a request out, or say what would come of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io, ui
from comfy_execution.graph_utils import ExecutionBlocker
from server import PromptServer

from ..pipelines.request import (
    NOVITA_MODELS,
    NovitaModel,
    RequestWithMedia,
    check,
    check_all,
    side_by_side,
)
from ..pipelines.video.output import suffix_of
from .files import EMBED_METADATA, VideoFile, new_video_file, workflow_tags
from .host_memory import HostMemory
from .host_progress import NodeProgress
from .inputs import filename_input, save_input
from .interpolators import interp_model_input, interpolators
from .lora_files import lora_sources
from .outgoing import allowed_file, written_media, written_video
from .remote import novita_model_input
from .remote_jobs import remote_folder
from .sockets import WanModelSocket, WanRequestSocket

if TYPE_CHECKING:
    from pathlib import Path

    from ..pipelines.generate.local_run import Acceleration
    from ..pipelines.loading.wan_model import WanModel
    from ..pipelines.plan import Plan

_ALL = "all"
_NO_IMAGES = ExecutionBlocker(
    "Wan Duet Run Local gives the frames of a video only when its return_images is on."
)


class WanDuetRunLocal(io.ComfyNode):
    """A request becomes a video, or a picture, on this machine."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetRunLocal",
            display_name="Wan Duet Run Local",
            category="Wan Duet/run",
            description="Makes the video or picture of a request on this machine. Connect video to Save "
            "Video, or the images of a picture to Save Image.",
            search_aliases=["generate video", "wan local", "run request", "render wan"],
            inputs=[
                WanRequestSocket.Input("request", tooltip="What is wanted."),
                WanModelSocket.Input("model", tooltip="The model that makes it."),
                filename_input(),
                save_input(),
                io.Boolean.Input(
                    "return_images",
                    default=False,
                    tooltip="On also fills the images output with the frames of a video, which are all held "
                    "in memory. A picture is always there.",
                ),
                io.Combo.Input(
                    "acceleration",
                    options=["exact", "as requested"],
                    default="exact",
                    optional=True,
                    tooltip="exact computes every step, whatever the request prefers. as requested does what "
                    "the request says: regular skips work that would change little.",
                ),
                interp_model_input(),
                io.Boolean.Input(
                    "allow_partial_loras",
                    default=False,
                    optional=True,
                    tooltip="On also applies a LoRA of the request of which only a part fits this model. "
                    "Off refuses it, because it would do little or nothing.",
                ),
                io.Video.Input(
                    "pose_video",
                    optional=True,
                    tooltip="Only for speech to video: a video whose poses lead the body of the speaker.",
                ),
                io.Float.Input(
                    "max_seconds",
                    default=0.0,
                    min=0.0,
                    max=86400.0,
                    step=1.0,
                    round=0.001,
                    optional=True,
                    tooltip="Only for speech to video: where the video ends at the latest. "
                    "0 is as long as the sound.",
                ),
            ],
            outputs=[
                io.Video.Output("video", tooltip="The finished video file; nothing for a picture."),
                io.Image.Output("images", tooltip="The picture, or the frames when return_images is on."),
                io.Int.Output("seed", tooltip="The seed that was used."),
                io.String.Output("prompt", tooltip="The prompt that was used."),
                io.String.Output(
                    "receipt", tooltip="JSON: what was asked, decided and used. Also inside the file."
                ),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.unique_id],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(
        cls,
        request: RequestWithMedia,
        model: WanModel,
        filename_prefix: str,
        save: bool,
        return_images: bool,
        acceleration: Acceleration = "exact",
        interp_model: Any | None = None,
        allow_partial_loras: bool = False,
        pose_video: Any | None = None,
        max_seconds: float = 0.0,
    ) -> io.NodeOutput:
        from ..pipelines.generate.local_run import run

        files: list[VideoFile] = []

        def place(plan: Plan) -> Path:
            ending = suffix_of(plan.output).removeprefix(".")
            files.append(new_video_file(filename_prefix, save, plan.width, plan.height, ending))
            return files[0].path

        result = run(
            request.request,
            model,
            out=place,
            memory=HostMemory(model.seat),
            progress=NodeProgress(cls.hidden.unique_id, model.family.latent_channels),
            media=written_media(request.media),
            find=allowed_file,
            tags=workflow_tags(cls.hidden),
            lora_sources=lora_sources(),
            return_images=return_images,
            embed_receipt=EMBED_METADATA,
            acceleration=acceleration,
            interpolators=interpolators(interp_model),
            allow_partial_loras=allow_partial_loras,
            pose_video=None if pose_video is None else written_video(pose_video),
            max_seconds=max_seconds or None,
        )
        (file,) = files
        images = _NO_IMAGES if result.images is None else result.images
        receipt = json.dumps(result.receipt, ensure_ascii=False)
        return io.NodeOutput(file.output(), images, result.seed, result.prompt, receipt, ui=file.preview())


class WanDuetCheck(io.ComfyNode):
    """What a runner would do with a request, before anything is spent."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetCheck",
            display_name="Wan Duet Check",
            category="Wan Duet/run",
            description="Says field by field what a runner would do as asked, adjust or refuse, and why. "
            "Instant: nothing is loaded or sent.",
            search_aliases=["validate request", "dry run", "price", "can it run"],
            inputs=[
                WanRequestSocket.Input("request", tooltip="The request to look at."),
                io.Combo.Input(
                    "runner",
                    options=["local", "fal", "novita", _ALL],
                    default="local",
                    tooltip="Who would carry it out. all lays the answers side by side.",
                ),
                WanModelSocket.Input(
                    "model",
                    optional=True,
                    tooltip="With a model, the answer is for that model and not in general.",
                ),
                novita_model_input(),
            ],
            outputs=[io.String.Output("report", tooltip="The answer, as shown in the node.")],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        request: RequestWithMedia,
        runner: str,
        model: WanModel | None = None,
        novita_model: NovitaModel = NOVITA_MODELS[0],
    ) -> io.NodeOutput:
        from ..pipelines.generate.local_run import local_abilities
        from ..pipelines.generate.required_weights import with_lightning
        from ..pipelines.remote.spending import read_spending

        if model is not None:  # with the LoRAs of turbo where they lie, as a run would have it
            model = with_lightning(model, request.request.task, lora_sources(online=False))
        family, abilities = None if model is None else model.family, local_abilities(interpolators(), model)
        prices = read_spending(remote_folder()).prices  # the user's own before the published ones
        if runner == _ALL:
            reports = check_all(
                request.request,
                family=family,
                abilities=abilities,
                prices=prices,
                novita_model=novita_model,
            )
            report = side_by_side(reports)
        else:
            report = check(request.request, runner, family, abilities, prices, novita_model).text()
        # The result of a node is text for programs only; this is the text a user sees in the node.
        PromptServer.instance.send_progress_text(report, cls.hidden.unique_id)
        return io.NodeOutput(report, ui=ui.PreviewText(report))
