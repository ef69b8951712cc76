"""The node that interpolates frames between images or the frames of a video."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..pipelines.errors import RequestError
from ..pipelines.video.cuts import SCENE_THRESHOLD
from .comfy_interface import ExecutionBlocker, io
from .files import VideoFile, new_video_file, workflow_tags
from .findings import NodeFindings, with_findings
from .finished_files import note_file, times_lost
from .host_memory import HostMemory
from .host_progress import NodeProgress
from .inputs import field_inputs, filename_input, rate, rate_input, save_input
from .interpolators import chosen_interpolator, interp_model_input, interpolator_name
from .output_inputs import background_input, odd_input, scene_threshold_input
from .video_file import file_of

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from ..pipelines.request import Finding
    from ..pipelines.video.edit import Edit
    from ..pipelines.video.frame_stream import FrameStream
    from ..pipelines.video.more_frames import Interpolator
    from ..pipelines.video.sound import Sound

__all__ = ["WanDuetInterpolate", "edit_of", "interpolated_video"]

_NO_IMAGES = ExecutionBlocker(
    "Wan Duet Interpolate returns images only if images are connected; use its video output."
)
_NO_VIDEO = ExecutionBlocker(
    "Wan Duet Interpolate returns a video only if video is connected; use its images output."
)


class WanDuetInterpolate(io.ComfyNode):
    """Interpolates frames: IMAGE to IMAGE, or VIDEO to VIDEO."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetInterpolate",
            display_name="Wan Duet Interpolate",
            category="Wan Duet/blocks",
            description="Interpolates new frames between each two frames of images or of a video, one pair "
            "at a time.",
            search_aliases=["frame interpolation", "rife", "film", "vfi", "slow motion", "smooth video"],
            inputs=[
                io.Image.Input(
                    "images", optional=True, tooltip="The frames to interpolate. Connect this or video."
                ),
                io.Video.Input(
                    "video", optional=True, tooltip="The video to interpolate. Its sound is kept."
                ),
                interp_model_input(),
                io.Combo.Input(
                    "interpolator",
                    options=["none", "flow", "film", "rife"],
                    default="flow",
                    tooltip="flow (optical flow) needs no file. film and rife handle large motion better and "
                    "need a file in models/frame_interpolation.",
                ),
                *field_inputs("text-to-video", ("num_interpolated_frames", "adjust_fps_for_interpolation")),
                rate_input(
                    "Frame rate of the images, used for the output frames_per_second. A video has its own."
                ),
                *field_inputs("text-to-video", ("video_quality", "video_write_mode")),
                filename_input(),
                save_input("Wan Duet Save Interpolated Video"),
                scene_threshold_input(),
                background_input(),
                odd_input(),
            ],
            outputs=[
                io.Image.Output("images", tooltip="The images with the interpolated ones."),
                io.Video.Output("video", tooltip="The video file."),
                io.Float.Output("frames_per_second", tooltip="Frame rate of the result."),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.unique_id],
            has_intermediate_output=True,
        )

    @classmethod
    def fingerprint_inputs(cls, **_: object) -> int:
        return times_lost(cls.hidden.unique_id)

    @classmethod
    def execute(
        cls,
        interpolator: str,
        num_interpolated_frames: int,
        adjust_fps_for_interpolation: bool,
        frames_per_second: float,
        video_quality: str,
        video_write_mode: str,
        filename_prefix: str,
        save: bool,
        images: Tensor | None = None,
        video: Any | None = None,
        interp_model: Any | None = None,
        scene_threshold: float = SCENE_THRESHOLD,
        background: str = "white",
        odd: str = "pad",
    ) -> io.NodeOutput:
        _require_one(images, video)
        edit = edit_of(
            frames_per_second,
            interpolator,
            interp_model,
            num_interpolated_frames,
            adjust_fps_for_interpolation,
            video_quality,
            video_write_mode,
            scene_threshold,
        )
        if images is not None:
            return _of_images(images, edit, interp_model, NodeProgress(cls.hidden.unique_id), background)
        return _of_video(video, edit, interp_model, cls.hidden, filename_prefix, save, background, odd)


def _of_images(
    images: Tensor, edit: Edit, interp_model: Any | None, progress: NodeProgress, background: str
) -> io.NodeOutput:
    from ..pipelines.video.frame_pixels import background_of
    from ..pipelines.video.image_tensor import flattened
    from ..pipelines.video.more_frames import interpolated_images

    count, height, width = images.shape[:3]
    fps, memory = float(edit.fps_out(count)), HostMemory()
    interpolator = chosen_interpolator(edit, interp_model, memory, width, height)
    if interpolator is not None:
        opaque = flattened(images, background_of(background))
        images = interpolated_images(opaque, interpolator, edit.between, progress, edit.scene_threshold)
    return io.NodeOutput(images, _NO_VIDEO, fps)


def _of_video(
    video: Any,
    edit: Edit,
    interp_model: Any | None,
    hidden: io.HiddenHolder,
    prefix: str,
    save: bool,
    background: str,
    odd: str,
) -> io.NodeOutput:
    """Interpolate a video. Returns it unchanged if no frames are added."""
    from ..pipelines.video.probe import probe

    with file_of(video) as source:
        if not edit.between:
            return io.NodeOutput(_NO_IMAGES, video, float(probe(source).fps))
        file, fps, findings = _of_file(source, edit, interp_model, hidden, prefix, save, background, odd)
    return io.NodeOutput(_NO_IMAGES, file.output(), fps, ui=with_findings(file.preview(), findings))


def interpolated_video(
    images: Tensor | None,
    video: Any | None,
    edit: Edit,
    interp_model: Any | None,
    hidden: io.HiddenHolder,
    prefix: str,
    background: str,
    odd: str,
) -> tuple[VideoFile, float, list[Finding]]:
    """Write images, or the frames of a video, to the output folder.

    Returns the file, its frame rate, and what changed on the way.

    edit: its `fps` is for images. A video has its own rate; one that varies becomes constant.
    """
    from ..pipelines.video.frame_pixels import background_of
    from ..pipelines.video.frames import image_frames

    _require_one(images, video)
    if images is not None:
        size = (images.shape[2], images.shape[1])
        interpolator = chosen_interpolator(edit, interp_model, HostMemory(), *size)
        frames = image_frames(images, background_of(background))
        return *_written(frames, len(images), size, edit, interpolator, hidden, prefix, True, None, odd), []
    with file_of(video) as source:
        return _of_file(source, edit, interp_model, hidden, prefix, True, background, odd)


def _of_file(
    source: Path,
    edit: Edit,
    interp_model: Any | None,
    hidden: io.HiddenHolder,
    prefix: str,
    save: bool,
    background: str,
    odd: str,
) -> tuple[VideoFile, float, list[Finding]]:
    from ..pipelines.video.frame_pixels import background_of
    from ..pipelines.video.source_clip import SourceWish, draw_between, open_clip

    findings = NodeFindings(hidden.unique_id)
    findings.tell([])  # removes those of the last run
    wish = SourceWish(background=background_of(background))
    clip = open_clip(source, wish, findings.notes_on("video", source.name))
    size, edit = (clip.facts.width, clip.facts.height), replace(edit, fps=clip.fps)
    interpolator = chosen_interpolator(edit, interp_model, HostMemory(), *size)
    clip, edit = draw_between(clip, edit, interpolator)
    file, fps = _written(
        clip.frames(), clip.count, size, edit, interpolator, hidden, prefix, save, clip.sound, odd
    )
    return file, fps, findings.found


def _written(
    frames: FrameStream,
    count: int,
    size: tuple[int, int],
    edit: Edit,
    interpolator: Interpolator | None,
    hidden: io.HiddenHolder,
    prefix: str,
    save: bool,
    audio: Sound | None,
    odd: str,
) -> tuple[VideoFile, float]:
    from ..pipelines.video.edit import write_edited

    file = new_video_file(prefix, save, *size)
    written = write_edited(
        frames,
        file.path,
        edit,
        count=count,
        width=size[0],
        height=size[1],
        interpolator=interpolator,
        tags=workflow_tags(hidden),
        audio=audio,
        progress=NodeProgress(hidden.unique_id),
        odd=odd,
    )
    note_file(hidden.unique_id, file.path)
    return file, float(written.fps)


def _require_one(images: Tensor | None, video: Any | None) -> None:
    if (images is None) == (video is None):
        found = "nothing is connected" if images is None else "both are connected"
        raise RequestError.of("images, video", found, "connect one of them")


def edit_of(
    frames_per_second: float,
    interpolator: str,
    interp_model: Any | None,
    num_interpolated_frames: int,
    adjust_fps_for_interpolation: bool,
    video_quality: str,
    video_write_mode: str,
    scene_threshold: float = SCENE_THRESHOLD,
) -> Edit:
    """Make the edit that the inputs of these nodes describe."""
    from ..pipelines.video.edit import Edit

    return Edit(
        rate(frames_per_second),
        interpolator=interpolator_name(interpolator, interp_model),
        num_interpolated_frames=num_interpolated_frames,
        adjust_fps=adjust_fps_for_interpolation,
        quality=video_quality,
        write_mode=video_write_mode,
        scene_threshold=scene_threshold,
    )
