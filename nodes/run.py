"""Nodes that run a request on this machine, or check what a runner would do with it."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ..pipelines.request import (
    NOVITA_MODELS,
    RUNNERS,
    NovitaModel,
    RequestWithMedia,
    WanRequest,
    check_all,
    side_by_side,
)
from ..pipelines.request.media_batches import bought_one_by_one, one_per_medium, remarks_on_batches
from ..pipelines.request.seeds_of_count import one_per_seed
from ..pipelines.request.shots import is_film
from ..pipelines.video.output import suffix_of
from .comfy_interface import io
from .files import (
    EMBED_METADATA,
    VideoFile,
    kept_latents_folder,
    new_video_file,
    preview_of,
    workflow_tags,
)
from .findings import NodeFindings, with_findings
from .finished_files import note_file, times_lost
from .gpus_of_model import expected_on_gpus, run_on_gpus_of
from .host_memory import HostMemory
from .host_progress import NodeProgress
from .inputs import filename_input, save_input
from .interpolators import interp_model_input, interpolators
from .lora_files import lora_sources
from .media import connected_lengths
from .outgoing import allowed_file, written_media, written_video
from .remote import novita_model_input
from .remote_jobs import remote_folder
from .return_images import NO_IMAGES, images_are_read, require_images_wanted, return_images_input
from .sockets import WanModelSocket, WanRequestSocket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..pipelines.generate.checked_run import Acceleration
    from ..pipelines.loading.host_model import AnyModel
    from ..pipelines.plan import Plan
    from ..pipelines.request import Finding
    from ..pipelines.weights.lora.find import LoraSources

_ALL = "all"


class WanDuetRunLocal(io.ComfyNode):
    """Generates the video or image of a request on this machine."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetRunLocal",
            display_name="Wan Duet Run Local",
            category="Wan Duet/run",
            description="Generates the video or image of a request on this machine: one for each image of a "
            "batch, and for each of its count of seeds. Connect video to Save Video, or images to Save "
            "Image.",
            search_aliases=[
                "generate video",
                "wan local",
                "run request",
                "render wan",
                "teacache",
                "step cache",
            ],
            inputs=[
                WanRequestSocket.Input("request", tooltip="The request to run."),
                WanModelSocket.Input("model", tooltip="The model to run it on."),
                filename_input(),
                save_input("Wan Duet Keep Video"),
                return_images_input(),
                io.Combo.Input(
                    "acceleration",
                    options=["exact", "as requested"],
                    default="exact",
                    optional=True,
                    tooltip="exact: compute every step. as requested: follow the request's acceleration "
                    "setting; regular reuses cached results for steps that barely change (faster, slightly "
                    "different output). A step_cache of Request Local acts either way.",
                ),
                interp_model_input(),
                io.Boolean.Input(
                    "allow_partial_loras",
                    default=False,
                    optional=True,
                    tooltip="On: apply a LoRA of the request even if only a part of it fits this model. "
                    "Off: reject it, because it would have little or no effect.",
                ),
                io.Video.Input(
                    "pose_video",
                    optional=True,
                    tooltip="Speech to video only: a video whose poses guide the speaker's body.",
                ),
                io.Float.Input(
                    "max_seconds",
                    default=0.0,
                    min=0.0,
                    max=86400.0,
                    step=1.0,
                    round=0.001,
                    optional=True,
                    tooltip="Speech to video only: maximum length of the video in seconds. 0: as long as "
                    "the audio.",
                ),
                _image_model_input(),
            ],
            outputs=[
                io.Video.Output("video", tooltip="The video file; empty for an image.", is_output_list=True),
                io.Image.Output(
                    "images",
                    tooltip="The image, or the frames of the video if return_images is on.",
                    is_output_list=True,
                ),
                io.Int.Output("seed", tooltip="The seed that was used.", is_output_list=True),
                io.String.Output("prompt", tooltip="The prompt that was used.", is_output_list=True),
                io.String.Output(
                    "receipt",
                    tooltip="JSON: the request, its adjustments and the settings used. Also embedded in "
                    "the file.",
                    is_output_list=True,
                ),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.unique_id],
            has_intermediate_output=True,
        )

    @classmethod
    def fingerprint_inputs(cls, **_: object) -> int:
        return times_lost(cls.hidden.unique_id, reads_images=images_are_read(cls.hidden.unique_id))

    @classmethod
    def execute(
        cls,
        request: RequestWithMedia,
        model: AnyModel,
        filename_prefix: str,
        save: bool,
        return_images: bool,
        acceleration: Acceleration = "exact",
        interp_model: Any | None = None,
        allow_partial_loras: bool = False,
        pose_video: Any | None = None,
        max_seconds: float = 0.0,
        image_model: AnyModel | None = None,
    ) -> io.NodeOutput:
        from ..pipelines.generate.kept_latents import KeptLatents
        from ..pipelines.generate.local_worker import LocalWorker

        require_images_wanted(cls.hidden, request.request.task, return_images)
        files: list[VideoFile] = []

        def place(plan: Plan) -> Path:
            ending = suffix_of(plan.output).removeprefix(".")
            files.append(new_video_file(filename_prefix, save, plan.width, plan.height, ending))
            return files[-1].path

        findings = NodeFindings(cls.hidden.unique_id)
        worker = LocalWorker(
            model,
            HostMemory(model.keep_alive),
            NodeProgress(cls.hidden.unique_id, model),
            findings.tell,
            lora_sources(),
            interpolators(interp_model),
            acceleration=acceleration,
            allow_partial_loras=allow_partial_loras,
            pose_video=None if pose_video is None else written_video(pose_video),
            max_seconds=max_seconds or None,
            image_model=image_model,
        )
        options: dict[str, Any] = {
            "out": place,
            "tags": workflow_tags(cls.hidden),
            "return_images": return_images,
            "embed_receipt": EMBED_METADATA,
            **({"found": batches} if (batches := remarks_on_batches(request)) else {}),
        }
        if model.gpus is None:
            kept = KeptLatents(kept_latents_folder())
            made = partial(worker.run, find=allowed_file, kept=kept, **options)
        else:
            made = partial(run_on_gpus_of, model, worker, **options)
        results = [made(one, media=media) for one, media in _one_each(request)]
        has_images = results[0].images is not None
        note_file(cls.hidden.unique_id, *(file.path for file in files), has_images=has_images)
        return io.NodeOutput(
            [file.output() for file in files],
            [NO_IMAGES if result.images is None else result.images for result in results],
            [result.seed for result in results],
            [result.prompt for result in results],
            [json.dumps(result.receipt, ensure_ascii=False) for result in results],
            ui=with_findings(preview_of(files), findings.found),
        )


def _image_model_input() -> io.Input:
    return WanModelSocket.Input(
        "image_model",
        optional=True,
        tooltip="Shots only: the model of shots that begin with an image, where the model makes only text to "
        "video.",
    )


def _one_each(request: RequestWithMedia) -> Iterator[tuple[WanRequest, dict[str, Path]]]:
    """Yield the request of each result, with the files of its media: per medium of a batch, per seed."""
    for one in one_per_medium(request):
        media = written_media(one.media)
        for seeded in one_per_seed(one.request):
            yield seeded, media


class WanDuetCheck(io.ComfyNode):
    """Reports what a runner would do with a request, before anything is spent."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetCheck",
            display_name="Wan Duet Check",
            category="Wan Duet/run",
            description="Reports for each field whether a runner would use it as asked, adjust it or reject "
            "it, and why. Loads and sends nothing, so it is instant.",
            search_aliases=["validate request", "dry run", "price", "can it run", "sigma curve"],
            inputs=[
                WanRequestSocket.Input("request", tooltip="The request to check."),
                io.Combo.Input(
                    "runner",
                    options=["local", "fal", "novita", _ALL],
                    default="local",
                    tooltip="The runner to check for. all compares the three runners.",
                ),
                WanModelSocket.Input(
                    "model",
                    optional=True,
                    tooltip="If connected, the local check is for this model instead of for any model.",
                ),
                novita_model_input(),
                _image_model_input(),
            ],
            outputs=[io.String.Output("report", tooltip="The report, as shown in the node.")],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        request: RequestWithMedia,
        runner: str,
        model: AnyModel | None = None,
        novita_model: NovitaModel = NOVITA_MODELS[0],
        image_model: AnyModel | None = None,
    ) -> io.NodeOutput:
        from ..pipelines.generate.local_abilities import local_abilities
        from ..pipelines.generate.lora_findings import lora_findings
        from ..pipelines.generate.media_inputs import media_findings
        from ..pipelines.generate.required_weights import with_lightning
        from ..pipelines.generate.stored_findings import formats_text
        from ..pipelines.loading.wan_model import WanModel
        from ..pipelines.plan.planned_report import planned_report
        from ..pipelines.plan.sigma_picture import picture_of_request
        from ..pipelines.remote.experience import known_spending

        sources = lora_sources(online=False)
        if model is not None:  # with the LoRAs of turbo where they lie, as a run would have it
            model = with_lightning(model, request.request.task, sources)
        damaged, facts = media_findings(request.request, find=allowed_file)
        if request.request.remote_only:
            facts = replace(facts, lengths={**facts.lengths, **connected_lengths(request.media)})
        family, abilities = None if model is None else model.family, local_abilities(interpolators(), model)
        prices = known_spending(remote_folder()).prices  # the user's own before the published ones
        runners = RUNNERS if runner == _ALL else (runner,)
        reports = check_all(
            request.request,
            runners,
            family=family,
            abilities=abilities,
            prices=prices,
            novita_model=novita_model,
            media=facts,
            found=[*lora_findings(request.request, sources), *damaged],
            found_here=[
                *remarks_on_batches(request),
                *([] if model is None else _fitting(model, request.request, sources)),
            ],
            found_elsewhere=bought_one_by_one(request),
            image_family=None if image_model is None else image_model.family,
        )
        if family is not None and not is_film(request.request):
            reports = [planned_report(one, family) if one.runner == "local" else one for one in reports]
        here = next((one for one in reports if one.runner == "local"), None)
        text = side_by_side(reports) if runner == _ALL else reports[0].text()
        if isinstance(model, WanModel) and "local" in runners:
            several = expected_on_gpus(model, request.request, reports[0])
            text = "\n".join(filter(None, (text, formats_text(model), several)))
        shown: dict[str, Any] = {"text": [text], "wan_duet_check": [report.table() for report in reports]}
        if here is not None and here.ok:
            picture = picture_of_request(request.request, family, abilities)
            shown |= {} if picture is None else {"wan_duet_picture": [picture]}
        return io.NodeOutput(text, ui=shown)


def _fitting(model: AnyModel, request: WanRequest, sources: LoraSources) -> list[Finding]:
    """Return what does not fit between the files of the request and the model."""
    from ..pipelines.generate.lora_findings import fit_findings
    from ..pipelines.generate.stored_findings import expected_stored_findings

    return [
        *fit_findings(request, sources, model, model.family),
        *expected_stored_findings(model, request, sources, HostMemory().device),
    ]
