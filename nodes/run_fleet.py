"""The node that runs a request at a `wan-duet serve`: on a machine of your own, or on many."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from comfy import model_management
from server import PromptServer

from ..pipelines.request import Finding, RequestWithMedia, WanRequest
from ..pipelines.request.field_rows import is_content_or_address, is_media, with_texts
from ..pipelines.request.parse import parse
from .comfy_interface import io
from .files import new_video_file, shown_video
from .findings import with_findings
from .finished_files import note_file, times_lost
from .outgoing import allowed_file, written_media
from .remote_jobs import remote_folder
from .remote_result import is_picture, result_outputs, video_and_images
from .return_images import images_are_read, require_images_wanted, return_images_input
from .sockets import WanRequestSocket

if TYPE_CHECKING:
    from ..pipelines.service.service_client import FleetResult

__all__ = ["WanDuetRunFleet"]

_POLL_S = 0.2


class WanDuetRunFleet(io.ComfyNode):
    """Runs a request at the service of fleet.json."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetRunFleet",
            display_name="Wan Duet Run Fleet",
            category="Wan Duet/run",
            description="Runs a request at your own wan-duet serve, on this machine or another one, and "
            "saves the video or image in the output folder. Stop cancels the job there. The address and the "
            "key come from `wan-duet clients connect ADDRESS`.",
            search_aliases=["fleet", "cluster", "many gpus", "remote worker", "own server", "ray"],
            inputs=[
                WanRequestSocket.Input("request", tooltip="The request to run."),
                io.String.Input(
                    "filename_prefix",
                    default="video/WanDuet",
                    tooltip="Start of the file name in the output folder; may contain folders. "
                    "%date:yyyy-MM-dd% is replaced.",
                ),
                return_images_input(),
            ],
            outputs=result_outputs(
                receipt="JSON: the request, its adjustments and the settings used. Also saved beside "
                "the file.",
                job_id="Id of the job at the service, for GET /v1/jobs/ID there.",
            ),
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
            has_intermediate_output=True,
        )

    @classmethod
    def fingerprint_inputs(cls, **_: object) -> int:
        return times_lost(cls.hidden.unique_id, reads_images=images_are_read(cls.hidden.unique_id))

    @classmethod
    async def execute(
        cls, request: RequestWithMedia, filename_prefix: str, return_images: bool
    ) -> io.NodeOutput:
        from ..pipelines.service.fleet_address import read_address_of_fleet
        from ..pipelines.service.service_client import run_at_service

        require_images_wanted(cls.hidden, request.request.task, return_images)
        stop, node_id = threading.Event(), cls.hidden.unique_id

        def run() -> FleetResult:
            return run_at_service(
                _with_contents(request),
                read_address_of_fleet(remote_folder()),
                lambda suffix: _new_file(filename_prefix, suffix),
                tell=lambda line: PromptServer.instance.send_progress_text(line, node_id),
                check=lambda: _require_going_on(stop),
            )

        # ComfyUI's loop may be held up for minutes by nodes that compute, so the job is followed in a thread.
        following = asyncio.ensure_future(asyncio.to_thread(run))
        try:
            while not (await asyncio.wait({following}, timeout=_POLL_S))[0]:
                model_management.throw_exception_if_processing_interrupted()
        except BaseException:
            stop.set()
            await asyncio.wait({following})
            raise
        return _to_outputs(node_id, following.result(), return_images=return_images)


class _StoppedError(Exception):
    """Ends the thread after a stop, which the node itself reports."""


def _require_going_on(stop: threading.Event) -> None:
    if stop.is_set():
        raise _StoppedError


def _with_contents(request: RequestWithMedia) -> WanRequest:
    """Return the request with its files as data URIs: the service reads no file that a client names."""
    connected = written_media(request.media)

    def embedded(field: str, text: str) -> str:
        return _data_uri(text, field, connected.get(field)) if is_media(field) else text

    return parse(request.request.kind, with_texts(request.request.document(), embedded))


def _data_uri(value: str, field: str, connected: Path | None) -> str:
    from ..pipelines.video.local_file import data_uri, file_at, of_type

    if connected is None and is_content_or_address(value):
        return value
    file = of_type(file_at(connected or allowed_file(value, field), field), field)
    return data_uri(file.read(0, file.size_bytes), file.content_type)


def _new_file(prefix: str, suffix: str) -> Path:
    file = new_video_file(prefix, save=True, width=0, height=0, container=suffix[1:]).path
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def _to_outputs(node_id: str | None, result: FleetResult, *, return_images: bool) -> io.NodeOutput:
    """Return the `result_outputs` of a job, a preview of its file, and the findings in its receipt."""
    found = [Finding(**finding) for finding in result.receipt.get("findings", ())]
    note_file(node_id, result.path, has_images=return_images or is_picture(result.path))
    return io.NodeOutput(
        *video_and_images(result.path, return_images=return_images),
        result.job["seed"],
        result.receipt.get("prompt", result.job["request"].get("prompt", "")),
        json.dumps(result.receipt, ensure_ascii=False),
        result.job["id"],
        ui=with_findings(shown_video(result.path).preview(), found),
    )
