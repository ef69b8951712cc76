"""A finished remote job as the outputs of a node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import folder_paths
from comfy_api.latest import InputImpl, io, ui
from comfy_execution.graph_utils import ExecutionBlocker

if TYPE_CHECKING:
    from ..pipelines.remote.job_record import Job

__all__ = ["result_outputs", "return_images_input", "to_outputs"]

_PICTURES = {".png", ".jpg", ".webp"}  # what a picture is saved as


def return_images_input() -> io.Input:
    return io.Boolean.Input(
        "return_images",
        default=False,
        tooltip="On also fills the images output with the frames of a video, which are all held in memory. "
        "A picture is always there.",
    )


def result_outputs() -> list[io.Output]:
    return [
        io.Video.Output("video", tooltip="The finished video file, which lies in the output folder."),
        io.Image.Output("images", tooltip="The picture, or the frames when return_images is on."),
        io.Int.Output("seed", tooltip="The seed that was used."),
        io.String.Output("prompt", tooltip="The prompt that was used."),
        io.String.Output(
            "receipt",
            tooltip="JSON: what was asked, adjusted, sent, answered and charged. Also beside the file.",
        ),
        io.String.Output("job_id", tooltip="Names the job for Wan Duet Job and for wan-duet jobs."),
    ]


def to_outputs(job: Job, *, return_images: bool) -> io.NodeOutput:
    """A job that is done: `result_outputs`, and its file as the node shows it."""
    from ..pipelines.remote.remote_receipt import remote_receipt
    from ..pipelines.video.image import read_image

    file = Path(str(job.file_path))
    video: Any = ExecutionBlocker("The result is a picture; connect images.")
    images: Any = ExecutionBlocker("The frames of a video are given only when return_images is on.")
    if file.suffix in _PICTURES:
        images = read_image(file)[None]
    else:
        video = InputImpl.VideoFromFile(str(file))
        if return_images:
            images = video.get_components().images
    unknown = ExecutionBlocker(f"{job.provider} does not say it, and it was not set.")
    return io.NodeOutput(
        video,
        images,
        unknown if job.seed is None else job.seed,
        unknown if job.prompt is None else job.prompt,
        json.dumps(remote_receipt(job), ensure_ascii=False),
        job.job_id,
        ui=_preview(file),
    )


def _preview(file: Path) -> ui.SavedImages | ui.PreviewVideo | None:
    """The browser gets files of the output folder; a job may have been run elsewhere."""
    output = Path(folder_paths.get_output_directory()).resolve()
    place = file.resolve()
    if not place.is_relative_to(output):
        return None
    subfolder = place.parent.relative_to(output).as_posix()
    saved = ui.SavedResult(place.name, "" if subfolder == "." else subfolder, io.FolderType.output)
    return ui.SavedImages([saved]) if file.suffix in _PICTURES else ui.PreviewVideo([saved])
