"""CLIP's image encoder, used by Wan 2.1 image to video in addition to the latents of the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..device.memory import Memory
from ..progress import Progress
from ..weights.footprint import weight_bytes
from ..weights.recipe import Recipe, materialise

__all__ = ["image_features"]

# wan/modules/clip.py of Wan-Video/Wan2.1: of the images that CLIP was trained on.
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@torch.inference_mode()
def image_features(
    recipe: Recipe, images: Sequence[Tensor], dtype: torch.dtype, memory: Memory, progress: Progress
) -> Tensor:
    """Return the CLIP features (1, tokens of all `images`, D) of the images, float32, CPU.

    images: (3, H, W) in [-1, 1]; each is resized to a square without keeping its aspect ratio.

    The encoder is freed before this returns. Raises ModelError if the recipe does not fit the network.
    """
    memory.reserve(weight_bytes(recipe, lambda _: dtype), "image encoder")
    try:
        body = _body(recipe)
        materialise(recipe, body, memory.device, lambda _: dtype, progress.check)
        hidden = body.embeddings(_prepared(images, recipe.config["image_size"]).to(memory.device, dtype))
        hidden = body.pre_layrnorm(hidden)
        hidden = body.encoder(inputs_embeds=hidden).last_hidden_state
        features: Tensor = hidden.flatten(0, 1)[None].float().cpu()
        return features
    finally:
        memory.release()


def _body(recipe: Recipe) -> Any:
    """Build the network on the meta device. Its one buffer that is computed, not stored, is real."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    with torch.device("meta"):
        network = CLIPVisionModel(CLIPVisionConfig(**recipe.config))
    body = getattr(network, "vision_model", network)  # transformers 4 has one module more around it
    body.post_layernorm = torch.nn.Identity()
    positions = body.embeddings.position_embedding.num_embeddings
    body.embeddings.position_ids = torch.arange(positions)[None]
    return body


def _prepared(images: Sequence[Tensor], side: int) -> Tensor:
    """Return (N, 3, side, side), resized without antialiasing and normalised as in the official clip.py."""
    squares = [
        functional.interpolate(image[None].float(), size=(side, side), mode="bicubic", align_corners=False)
        for image in images
    ]
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (_MEAN, _STD))
    return (torch.cat(squares) * 0.5 + 0.5 - mean) / std
