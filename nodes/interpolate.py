"""The node that interpolates frames between images or the frames of a video."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ..pipelines.errors import RequestError
from .files import new_video_file, workflow_tags
from .host_memory import HostMemory
from .host_progress import NodeProgress
from .inputs import field_inputs, filename_input, rate, rate_input, save_input
from .interpolators import chosen_interpolator, interp_model_input, interpolator_name
from .video_file import file_of

if TYPE_CHECKING:
    from torch import Tensor

    from ..pipelines.video.edit import Edit

_NO_IMAGES = ExecutionBlocker(
    "Wan Duet Interpolate returns images only if images are connected; use its video output."
)
_NO_VIDEO = ExecutionBlocker(
    "Wan Duet Interpolate returns a video only if video is connected; use its images output."
)


class WanDuetInterpolate(io.ComfyNode):
    """IMAGE -> IMAGE, VIDEO -> VIDEO."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetInterpolate",
            display_name="Wan Duet Interpolate",
            category="Wan Duet/blocks",
            description="Interpolates new frames between each two frames of images or of a video, one "
            "pair at "
            "a time.",
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
                save_input(),
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
    ) -> io.NodeOutput:
        from ..pipelines.video.edit import Edit

        if (images is None) == (video is None):
            found = "nothing is connected" if images is None else "both are connected"
            raise RequestError.of("images, video", found, "connect one of them")
        edit = Edit(
            rate(frames_per_second),
            interpolator=interpolator_name(interpolator, interp_model),
            num_interpolated_frames=num_interpolated_frames,
            adjust_fps=adjust_fps_for_interpolation,
            quality=video_quality,
            write_mode=video_write_mode,
        )
        if images is not None:
            return _of_images(images, edit, interp_model, NodeProgress(cls.hidden.unique_id))
        return _of_video(video, edit, interp_model, cls.hidden, filename_prefix, save)


def _of_images(images: Tensor, edit: Edit, interp_model: Any | None, progress: NodeProgress) -> io.NodeOutput:
    from ..pipelines.video.more_frames import interpolated_images

    count, height, width = images.shape[:3]
    fps, memory = float(edit.fps_out(count)), HostMemory()
    interpolator = chosen_interpolator(edit, interp_model, memory, width, height)
    if interpolator is not None:
        images = interpolated_images(images, interpolator, edit.between, progress)
    return io.NodeOutput(images, _NO_VIDEO, fps)


def _of_video(
    video: Any, edit: Edit, interp_model: Any | None, hidden: io.HiddenHolder, prefix: str, save: bool
) -> io.NodeOutput:
    """A video to which nothing is added is passed on as it is."""
    from ..pipelines.video.audio import read_audio
    from ..pipelines.video.edit import write_edited
    from ..pipelines.video.probe import probe
    from ..pipelines.video.read import read_frames

    memory = HostMemory()
    with file_of(video) as source:
        facts = probe(source)
        interpolator = chosen_interpolator(edit, interp_model, memory, facts.width, facts.height)
        if interpolator is None:
            return io.NodeOutput(_NO_IMAGES, video, float(facts.fps))
        file = new_video_file(prefix, save, facts.width, facts.height)
        written = write_edited(
            read_frames(source),
            file.path,
            replace(edit, fps=facts.fps),
            count=facts.frames,
            width=facts.width,
            height=facts.height,
            interpolator=interpolator,
            tags=workflow_tags(hidden),
            audio=read_audio(source),
            progress=NodeProgress(hidden.unique_id),
        )
    return io.NodeOutput(_NO_IMAGES, file.output(), float(written.fps), ui=file.preview())
