"""Returns a finished remote job as the outputs of a node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import folder_paths

from .comfy_interface import ExecutionBlocker, InputImpl, io, ui
from .findings import with_findings
from .return_images import NO_IMAGES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..pipelines.remote.film_purchase import BoughtFilm
    from ..pipelines.remote.job_record import Job
    from ..pipelines.request import Finding

__all__ = ["film_outputs", "is_picture", "result_outputs", "to_outputs", "video_and_images"]

_IMAGE_SUFFIXES = {".png", ".jpg", ".webp"}


_RECEIPT = (
    "JSON: the request, its adjustments, what was sent, the provider's answer and the price. Also saved "
    "beside the file."
)
_JOB_ID = (
    "Id of the job, for Wan Duet Job and for wan-duet jobs. Of several shots: those of all their jobs, with "
    "commas between."
)


def result_outputs(receipt: str = _RECEIPT, job_id: str = _JOB_ID) -> list[io.Output]:
    """Return the outputs of a node that runs a request elsewhere. receipt, job_id: their tooltips."""
    return [
        io.Video.Output("video", tooltip="The video file in the output folder; empty for an image."),
        io.Image.Output("images", tooltip="The image, or the frames of the video if return_images is on."),
        io.Int.Output("seed", tooltip="The seed that was used."),
        io.String.Output("prompt", tooltip="The prompt that was used."),
        io.String.Output("receipt", tooltip=receipt),
        io.String.Output("job_id", tooltip=job_id),
    ]


def is_picture(file: Path) -> bool:
    return file.suffix in _IMAGE_SUFFIXES


def to_outputs(job: Job, *, return_images: bool) -> io.NodeOutput:
    """Return the `result_outputs` of a finished job, and a preview of its file."""
    from ..pipelines.remote.remote_receipt import remote_receipt

    unknown = ExecutionBlocker(f"The request did not set this value, and {job.provider} did not return it.")
    file = Path(str(job.file_path))
    return io.NodeOutput(
        *video_and_images(file, return_images=return_images),
        unknown if job.seed is None else job.seed,
        unknown if job.prompt is None else job.prompt,
        json.dumps(remote_receipt(job), ensure_ascii=False),
        job.job_id,
        ui=with_findings(_preview(file), job.findings),
    )


def film_outputs(film: BoughtFilm, findings: Sequence[Finding], *, return_images: bool) -> io.NodeOutput:
    """Return the `result_outputs` of a video of several shots, and its preview."""
    receipt = film.receipt
    return io.NodeOutput(
        *video_and_images(film.path, return_images=return_images),
        receipt["seed"],
        " | ".join(str(shot["prompt"]) for shot in receipt["shots"]),
        json.dumps(receipt, ensure_ascii=False),
        ", ".join(shot["job"]["job_id"] for shot in receipt["shots"]),
        ui=with_findings(_preview(film.path), findings),
    )


def video_and_images(file: Path, *, return_images: bool) -> tuple[Any, Any]:
    """Return the outputs video and images."""
    from ..pipelines.video.read_image import read_image

    video: Any = ExecutionBlocker("The result is an image; connect images instead of video.")
    images: Any = NO_IMAGES
    if is_picture(file):
        images = read_image(file)[None]
    else:
        video = InputImpl.VideoFromFile(str(file))
        if return_images:
            images = video.get_components().images
    return video, images


def _preview(file: Path) -> ui.SavedImages | ui.PreviewVideo | None:
    """Return a preview of a file in the output folder, else None: the browser cannot get other files."""
    output = Path(folder_paths.get_output_directory()).resolve()
    place = file.resolve()
    if not place.is_relative_to(output):
        return None
    subfolder = place.parent.relative_to(output).as_posix()
    saved = ui.SavedResult(place.name, "" if subfolder == "." else subfolder, io.FolderType.output)
    return ui.SavedImages([saved]) if is_picture(file) else ui.PreviewVideo([saved])
