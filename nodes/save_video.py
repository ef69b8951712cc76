"""Defines the nodes that end a graph with a video file in the output folder.

Whether a node ends a graph is a constant of its class. A switch in a node cannot change it, and a node that
always ends a graph would run both branches of a lazy switch. So each node with a `save` switch has a twin.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import folder_paths

from ..pipelines.files.staging import staged_pair
from ..pipelines.video.output import sidecar
from .comfy_interface import io
from .files import new_video_file, shown_video
from .findings import with_findings
from .inputs import filename_input
from .interpolate import WanDuetInterpolate, edit_of, interpolated_video
from .video import WanDuetEncodeVideo, WanDuetRenderVideo
from .video_file import file_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["WanDuetKeepVideo", "WanDuetSaveEncoded", "WanDuetSaveInterpolated", "WanDuetSaveRendered"]


def _saving(node: type[io.ComfyNode], node_id: str, name: str, description: str) -> type[io.ComfyNode]:
    """Create the twin of a node with a `save` switch: it always saves, and ends the graph."""

    class Saving(io.ComfyNode):
        @classmethod
        def define_schema(cls) -> io.Schema:
            return _ending_a_graph(node.define_schema(), node_id, name, description)

        @classmethod
        def execute(cls, **inputs: Any) -> io.NodeOutput:
            return node.execute.__func__(cls, save=True, **inputs)  # type: ignore[attr-defined]

    Saving.__name__ = Saving.__qualname__ = node_id
    return Saving


WanDuetSaveRendered = _saving(
    WanDuetRenderVideo,
    "WanDuetSaveRendered",
    "Wan Duet Save Rendered Video",
    "Decodes a latent straight into a video file in the output folder, and ends a graph. Otherwise like Wan "
    "Duet Render Video.",
)
WanDuetSaveEncoded = _saving(
    WanDuetEncodeVideo,
    "WanDuetSaveEncoded",
    "Wan Duet Save Encoded Video",
    "Encodes images, or re-encodes a video, to a file in the output folder, and ends a graph. Otherwise like "
    "Wan Duet Encode Video.",
)


class WanDuetSaveInterpolated(io.ComfyNode):
    """Interpolates IMAGE or VIDEO, and saves the video file in the output folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = _ending_a_graph(
            WanDuetInterpolate.define_schema(),
            "WanDuetSaveInterpolated",
            "Wan Duet Save Interpolated Video",
            "Interpolates frames between those of images or of a video, writes a video file to the output "
            "folder, and ends a graph. With interpolator none it only encodes.",
        )
        schema.outputs = [output for output in schema.outputs if output.id != "images"]
        return schema

    @classmethod
    def execute(
        cls,
        filename_prefix: str,
        images: Tensor | None = None,
        video: Any | None = None,
        interp_model: Any | None = None,
        background: str = "white",
        odd: str = "pad",
        **settings: Any,
    ) -> io.NodeOutput:
        edit = edit_of(interp_model=interp_model, **settings)
        file, fps, findings = interpolated_video(
            images, video, edit, interp_model, cls.hidden, filename_prefix, background, odd
        )
        return io.NodeOutput(file.output(), fps, ui=with_findings(file.preview(), findings))


class WanDuetKeepVideo(io.ComfyNode):
    """Copies the file of a VIDEO to the output folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetKeepVideo",
            display_name="Wan Duet Keep Video",
            category="Wan Duet/run",
            description="Ends a graph and keeps its video: copies the file and its receipt to the output "
            "folder as they are. A video that lies there already, because save is on, is not copied.",
            search_aliases=["save video", "end node", "output video", "keep result"],
            inputs=[io.Video.Input("video", tooltip="The video to keep."), filename_input()],
            outputs=[io.Video.Output("video", tooltip="The file in the output folder.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, video: Any, filename_prefix: str) -> io.NodeOutput:
        with file_of(video) as source:
            kept = source if _is_in_output(source) else _copied(source, filename_prefix, video)
        shown = shown_video(kept)
        return io.NodeOutput(shown.output(), ui=shown.preview())


def _ending_a_graph(schema: io.Schema, node_id: str, name: str, description: str) -> io.Schema:
    """Return the schema without its `save` switch, for a node that ends a graph."""
    schema.node_id, schema.display_name, schema.description = node_id, name, description
    schema.search_aliases = ["save video", "end node", *(schema.search_aliases or ())]
    schema.inputs = [each for each in schema.inputs if each.id != "save"]
    schema.is_output_node, schema.has_intermediate_output = True, False
    return schema


def _is_in_output(file: Path) -> bool:
    return file.resolve().is_relative_to(Path(folder_paths.get_output_directory()).resolve())


def _copied(source: Path, prefix: str, video: Any) -> Path:
    """Copy a video and its receipt. Both appear completely or not at all."""
    width, height = video.get_dimensions()
    place = new_video_file(prefix, True, width, height, source.suffix.removeprefix(".")).path
    with staged_pair(place, sidecar(place)) as staged:
        shutil.copyfile(source, staged)
        if sidecar(source).exists():
            shutil.copyfile(sidecar(source), sidecar(staged))
    return place
