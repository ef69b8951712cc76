"""Defines the node that shows several videos in one image, to compare runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from comfy import model_management

from .comfy_interface import io, ui
from .findings import NodeFindings, colour_findings, with_findings
from .outgoing import written_video


class WanDuetContactSheet(io.ComfyNode):
    """Draws evenly spaced frames of up to four videos, one row per video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        others = [f"video_{number}" for number in (2, 3, 4)]
        return io.Schema(
            node_id="WanDuetContactSheet",
            display_name="Wan Duet Contact Sheet",
            category="Wan Duet/many",
            description="Draws evenly spaced frames of up to four videos as one image, to compare runs.",
            search_aliases=["compare videos", "contact sheet", "storyboard", "video grid", "xy plot"],
            inputs=[
                io.Video.Input("video", tooltip="The video of the first row."),
                io.Int.Input("columns", default=6, min=1, max=64, tooltip="Frames of each video."),
                io.Int.Input("width", default=240, min=16, max=2048, tooltip="Width of a frame in pixels."),
                io.String.Input(
                    "labels",
                    default="",
                    multiline=True,
                    tooltip="The text above each row, one line per row. Empty: the number of the row.",
                ),
                *(
                    io.Video.Input(name, optional=True, tooltip="The video of a further row.")
                    for name in others
                ),
            ],
            outputs=[io.Image.Output("image", tooltip="The contact sheet.")],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(cls, video: Any, columns: int, width: int, labels: str, **others: Any) -> io.NodeOutput:
        import torch

        from ..pipelines.video.contact_sheet import contact_sheet

        written = [written_video(one) for one in (video, *others.values()) if one is not None]
        named = labels.splitlines()
        rows: list[tuple[str, Path]] = [
            ((named[row : row + 1] or [""])[0] or f"video {row + 1}", file)
            for row, file in enumerate(written)
        ]
        findings = NodeFindings(cls.hidden.unique_id)
        findings.tell([found for label, file in rows for found in colour_findings("video", file, label)])
        stop = model_management.throw_exception_if_processing_interrupted
        pixels = torch.from_numpy(contact_sheet(rows, columns, width, stop).copy())
        image = pixels[None].float() / 255
        shown = ui.PreviewImage(image, cls=cls)
        return io.NodeOutput(image, ui=with_findings(shown, findings.found))
