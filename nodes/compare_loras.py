"""The node that compares LoRAs: a video for each LoRA, expert, strength, prompt and seed."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import folder_paths
from server import PromptServer

from ..pipelines.errors import ModelError, RequestError, WanDuetError
from ..pipelines.request import RequestWithMedia
from ..pipelines.request.many_prompts import numbered_prompts
from ..pipelines.request.media_batches import one_per_medium
from .comfy_interface import InputImpl, io, ui
from .files import EMBED_METADATA, shown_video, workflow_tags
from .findings import NodeFindings, with_findings
from .finished_files import note_file, times_lost
from .host_memory import HostMemory
from .host_progress import NodeProgress
from .interpolators import interpolators
from .lora_files import lora_sources, stamps
from .outgoing import allowed_file, written_media
from .sockets import WanModelSocket, WanRequestSocket

if TYPE_CHECKING:
    from ..pipelines.fleet.local_place import LocalPlace
    from ..pipelines.fleet.lora_bench import LoraBench
    from ..pipelines.fleet.row_journal import JournalRow
    from ..pipelines.loading.host_model import AnyModel

__all__ = ["WanDuetLoraBench"]

log = logging.getLogger(__name__)

_KEY_LENGTH = 8
_NODE_NAMES = {"--output": "filename_prefix", "FILE": "loras", "kind": "request"}


class WanDuetLoraBench(io.ComfyNode):
    """Makes a video for each LoRA, expert, strength, prompt and seed, and compares them."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetLoraBench",
            display_name="Wan Duet LoRA Bench",
            category="Wan Duet/many",
            description="Compares LoRAs: makes a video for each LoRA, expert, strength, prompt and seed, and "
            "one without a LoRA, in a folder of the output folder, each with its receipt. After Stop the "
            "same inputs go on there.",
            search_aliases=["lora test", "lora grid", "xy plot", "lora strength", "compare loras"],
            inputs=[
                WanRequestSocket.Input(
                    "request", tooltip="All other fields of every video. Its seed is the first one."
                ),
                WanModelSocket.Input("model", tooltip="The model of every video. It may have LoRAs already."),
                io.String.Input(
                    "loras",
                    default="",
                    multiline=True,
                    tooltip="One LoRA a line: a file in models/loras, toy/NAME, or an address.",
                ),
                io.String.Input(
                    "strengths", default="0.5, 1", tooltip="Strengths, with commas between them."
                ),
                io.String.Input(
                    "experts",
                    default="both",
                    tooltip="high, low or both; several with commas between them.",
                ),
                io.String.Input(
                    "prompts",
                    default="",
                    multiline=True,
                    tooltip="One prompt a line. Empty: the prompt of the request.",
                ),
                io.Int.Input(
                    "seeds",
                    default=1,
                    min=1,
                    max=1000,
                    tooltip="How many seeds, from that of the request on.",
                ),
                io.String.Input(
                    "filename_prefix",
                    default="lora_bench/WanDuet",
                    tooltip="Start of the name of a folder in the output folder. It ends with a code for the "
                    "request, the prompts, the model and the LoRA files.",
                ),
                io.Boolean.Input(
                    "allow_partial_loras",
                    default=False,
                    optional=True,
                    tooltip="On: apply a LoRA even if only a part of it fits this model. Off: reject it.",
                ),
            ],
            outputs=[
                io.Image.Output("sheet", tooltip="The contact sheet: four frames of each video."),
                io.Video.Output("grid", tooltip="All videos side by side: a row for each LoRA setting."),
                io.String.Output(
                    "table",
                    tooltip="Means for each LoRA setting: likeness to the video without a LoRA (SSIM) and "
                    "motion; of the embedded model also what its detector sees.",
                ),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.unique_id],
            is_output_node=True,
            has_intermediate_output=True,
        )

    @classmethod
    def fingerprint_inputs(cls, loras: str | None = None, **_: object) -> list[object]:
        return [times_lost(cls.hidden.unique_id), *stamps(_lines(loras or ""))]

    @classmethod
    def execute(
        cls,
        request: RequestWithMedia,
        model: AnyModel,
        loras: str,
        strengths: str,
        experts: str,
        prompts: str,
        seeds: int,
        filename_prefix: str,
        allow_partial_loras: bool = False,
    ) -> io.NodeOutput:
        from ..pipelines.fleet.batch_folder import BatchFolder
        from ..pipelines.fleet.local_place import LocalPlace
        from ..pipelines.fleet.lora_bench import run_bench
        from ..pipelines.fleet.lora_comparison import compare
        from ..pipelines.generate.local_worker import LocalWorker
        from ..pipelines.video.read_image import read_image

        _require_own(model)
        node_id, findings = cls.hidden.unique_id, NodeFindings(cls.hidden.unique_id)
        progress = NodeProgress(node_id, model)
        worker = LocalWorker(
            model,
            HostMemory(model.keep_alive),
            progress,
            findings.tell,
            lora_sources(),
            interpolators(),
            allow_partial_loras=allow_partial_loras,
        )
        place = LocalPlace(
            worker,
            media=written_media(request.media),
            find=allowed_file,
            options={"tags": workflow_tags(cls.hidden), "embed_receipt": EMBED_METADATA},
        )
        try:
            bench = _bench(request, _lines(loras), strengths, experts, _lines(prompts), seeds)
            folder = _folder(filename_prefix, bench, place)
            run_bench(bench, BatchFolder(folder), place, _Shown(node_id))
        except RequestError as error:
            raise _in_our_words(error) from error
        compared = compare(bench, folder, model, progress)
        note_file(node_id, compared.sheet, compared.grid)
        table = "\n".join(compared.lines())
        shown = with_findings(ui.SavedImages([shown_video(compared.sheet).listed]), findings.found)
        return io.NodeOutput(
            read_image(compared.sheet)[None],
            InputImpl.VideoFromFile(str(compared.grid)),
            table,
            ui={**(shown or {}), "text": [f"{table}\n{folder}"]},
        )


class _Shown:
    """Says in the node and in the console which video is made. Raises WanDuetError for one that failed."""

    def __init__(self, node_id: str | None) -> None:
        self._node_id = node_id

    def resumed(self, done: int, rows: int) -> None:
        if done:
            log.info("%d of %d videos are there already", done, rows)

    def begun(self, position: int, rows: int, row: JournalRow, left_s: float | None) -> None:
        del left_s
        line = f"video {position} of {rows}: {row.name}"
        log.info("%s", line)
        if self._node_id is not None:
            PromptServer.instance.send_progress_text(line, self._node_id)

    def ended(self, row: JournalRow) -> None:
        if row.state == "failed":
            raise WanDuetError(f"{row.name}: {row.error}")


def _require_own(model: AnyModel) -> None:
    """Raise ModelError for a MODEL of ComfyUI: after a Stop nobody could tell whether it is the same."""
    from ..pipelines.loading.wan_model import WanModel

    if not isinstance(model, WanModel):
        raise ModelError("model: a MODEL of ComfyUI; the bench needs one from Wan Duet Load Model")


def _bench(
    request: RequestWithMedia, files: list[str], strengths: str, experts: str, prompts: list[str], seeds: int
) -> LoraBench:
    from ..pipelines.fleet.lora_bench import bench_of
    from ..pipelines.fleet.lora_cells import experts_in, strengths_in

    if not files:
        raise RequestError.of("loras", "none is named", "write one a line")
    if len(one_per_medium(request)) > 1:
        raise RequestError.of("request", "has a batch of media", "connect one image or sound")
    values = {name: value for name, value in request.request.document().items() if value not in (None, [])}
    prompt, first = values.pop("prompt", ""), values.pop("seed", 0)
    return bench_of(
        files,
        strengths_in(strengths),
        experts_in(experts),
        kind=request.request.kind,
        values=values,
        prompts=prompts or [prompt],
        seeds=range(first, first + seeds),
    )


def _folder(prefix: str, bench: LoraBench, place: LocalPlace) -> Path:
    """Return the folder of this request, these prompts, this model and these LoRA files.

    The same ones with another strength, expert or number of seeds go on in it.
    """
    from ..pipelines.fleet.lora_bench import bench_key

    root = folder_paths.get_output_directory()
    parent, name, *_ = folder_paths.get_save_image_path(prefix, root)
    return Path(parent) / f"{name}_{bench_key(bench, place)[:_KEY_LENGTH]}"


def _lines(text: str) -> list[str]:
    return [line for _, line in numbered_prompts(text)]


def _in_our_words(error: RequestError) -> RequestError:
    """Name the inputs of this node in place of the flags of the command line."""
    return RequestError([replace(one, field=_NODE_NAMES.get(one.field, one.field)) for one in error.problems])
