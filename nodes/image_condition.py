"""The node that adds start and end images to the conditioning of a sampler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .comfy_interface import io
from .conditioning import with_images
from .host_memory import HostMemory
from .host_progress import NodeProgress
from .latents import to_latent
from .media import image_of
from .prepare import latent_shape, length_input, size_inputs
from .sockets import WanModelSocket

if TYPE_CHECKING:
    from ..pipelines.loading.host_model import AnyModel


class WanDuetImageCondition(io.ComfyNode):
    """Adds a start image, and optionally an end image."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetImageCondition",
            display_name="Wan Duet Image Condition",
            category="Wan Duet/blocks",
            description="Adds a start image, and optionally an end image, to the conditioning of an "
            "image-to-video model. Works with the samplers of this pack and with ComfyUI's.",
            search_aliases=[
                "wan image to video",
                "first last frame",
                "last frame",
                "start image",
                "i2v conditioning",
            ],
            inputs=[
                WanModelSocket.Input("model", tooltip="The image-to-video model."),
                io.Conditioning.Input("positive", tooltip="The prompt, from Wan Duet Encode Prompt."),
                io.Conditioning.Input("negative", tooltip="The negative prompt."),
                io.Image.Input(
                    "image", tooltip="The first frame. Resized to cover width and height, then cropped."
                ),
                *size_inputs(),
                length_input("Number of frames, rounded up to one more than a multiple of 4 (such as 81)."),
                io.Image.Input(
                    "end_image",
                    optional=True,
                    tooltip="The last frame, for models that support one: A14B, FLF2V, toy-image.",
                ),
            ],
            outputs=[
                io.Conditioning.Output("positive", tooltip="The prompt with the images."),
                io.Conditioning.Output("negative", tooltip="The negative prompt with the images."),
                io.Latent.Output(
                    "latent", tooltip="The latent to sample; for the 5B model it contains the start image."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model: AnyModel,
        positive: Any,
        negative: Any,
        image: Any,
        width: int,
        height: int,
        num_frames: int,
        end_image: Any | None = None,
    ) -> io.NodeOutput:
        import torch

        from ..pipelines.generate.start_images import encode_images, require_image_support

        require_image_support(model, end_image is not None)
        shape = latent_shape(model, width, height, num_frames)
        first, last = image_of(image, "image"), image_of(end_image, "end_image")
        progress, size = NodeProgress(cls.hidden.unique_id), (width, height)
        images = encode_images(model, first, last, size, shape[1:], num_frames, HostMemory(), progress)
        conditions = (with_images(condition, images) for condition in (positive, negative))
        latent = to_latent(images.start(torch.zeros(shape)), images.frames)
        return io.NodeOutput(*conditions, latent)
