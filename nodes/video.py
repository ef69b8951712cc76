"""Nodes at the end: latents become images, images become a video file."""

from __future__ import annotations

from contextlib import closing
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from .files import new_video_file, workflow_tags
from .inputs import field_inputs, filename_input, save_input
from .latents import from_latent
from .memory import HostMemory
from .progress import NodeProgress
from .sockets import WanModelSocket

if TYPE_CHECKING:
    from torch import Tensor

    from ..pipelines.models.wan_model import WanModel


class WanDuetDecode(io.ComfyNode):
    """LATENT -> IMAGE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetDecode",
            display_name="Wan Duet Decode",
            category="Wan Duet/blocks",
            description="Turns a latent video into images, one latent frame after another.",
            search_aliases=["vae decode wan", "latent to image"],
            inputs=[
                WanModelSocket.Input("model", tooltip="The model whose VAE decodes."),
                io.Latent.Input("latent", tooltip="The latent to turn into images."),
            ],
            outputs=[io.Image.Output("images", tooltip="The frames.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, model: WanModel, latent: Any) -> io.NodeOutput:
        import torch

        from ..pipelines.stages import decode

        latents, progress = from_latent(latent), NodeProgress(cls.hidden.unique_id)
        count = (latents.shape[2] - 1) * model.family.vae_stride[0] + 1
        progress.begin("decoding", count, "frames")
        images: Tensor | None = None
        with closing(decode(model, latents, HostMemory(), progress)) as frames:
            for index, frame in enumerate(frames):
                if images is None:
                    images = torch.empty(count, *frame.shape[1:], 3)
                images[index] = (frame.permute(1, 2, 0) * 0.5 + 0.5).clamp(0, 1)
                progress.advance(index + 1)
        return io.NodeOutput(images)


class WanDuetEncodeVideo(io.ComfyNode):
    """IMAGE -> VIDEO."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetEncodeVideo",
            display_name="Wan Duet Encode Video",
            category="Wan Duet/blocks",
            description="Writes images into an MP4 that plays everywhere.",
            search_aliases=["create video", "video combine", "mp4"],
            inputs=[
                io.Image.Input("images", tooltip="The frames of the video."),
                io.Float.Input(
                    "frames_per_second",
                    default=16.0,
                    min=0.01,
                    max=300.0,
                    step=1.0,
                    round=0.001,
                    tooltip="How fast it plays. Wan 2.2 A14B is made for 16.",
                ),
                *field_inputs("text-to-video", ("video_quality", "video_write_mode")),
                filename_input(),
                save_input(),
            ],
            outputs=[io.Video.Output("video", tooltip="The finished video file.")],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.unique_id],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(
        cls,
        images: Tensor,
        frames_per_second: float,
        video_quality: str,
        video_write_mode: str,
        filename_prefix: str,
        save: bool,
    ) -> io.NodeOutput:
        from ..pipelines.media.encode import encode_video
        from ..pipelines.media.frames import image_frames

        count, height, width = images.shape[:3]
        file = new_video_file(filename_prefix, save, width, height)
        encode_video(
            image_frames(images),
            file.path,
            width=width,
            height=height,
            fps=Fraction(frames_per_second).limit_denominator(1001),
            quality=video_quality,
            write_mode=video_write_mode,
            tags=workflow_tags(cls.hidden),
            progress=NodeProgress(cls.hidden.unique_id),
            frame_count=count,
        )
        return io.NodeOutput(file.output(), ui=file.preview())
