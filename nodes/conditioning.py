"""Converts between CONDITIONING of ComfyUI and the text and images that condition an expert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ..pipelines.errors import SamplingError

if TYPE_CHECKING:
    from torch import Tensor

    from ..pipelines.generate.conditions import ImageConditions
    from ..pipelines.loading.wan_model import WanModel
    from ..pipelines.sampling.engine import Condition

__all__ = ["from_conditioning", "to_conditioning", "with_images"]

Conditioning = Sequence[Sequence[Any]]

# Keys without an effect of their own. Wan reads no pooled text. The others only modify a mask, an area or a
# control, and those keys are rejected.
_IDLE = {"pooled_output", "mask_strength", "set_area_to_bounds", "control_apply_to_uncond", "default", "uuid"}
# The keys of an image, for a model that needs one.
_IMAGE = {"concat_latent_image", "concat_mask", "clip_vision_output"}
# Keys that have no effect at this value.
_NEUTRAL = {
    "strength": 1,
    "start_percent": 0,
    "end_percent": 1,
    "clip_start_percent": 0,
    "clip_end_percent": 1,
}


def from_conditioning(conditioning: Conditioning, name: str, model: WanModel) -> Condition:
    """Return the only condition in `conditioning`, with its image if the model needs one.

    The embeddings are padded with zeros to the length that the experts were trained on.
    name: of the input, for errors.

    Raises SamplingError for several conditions, for embeddings or an image of another model, and for a key
    that this sampler would ignore.
    """
    import torch

    from ..pipelines.sampling.engine import Condition

    if len(conditioning) != 1:
        raise SamplingError(
            f"{name}: {len(conditioning)} conditionings, but combined ones are not supported; connect one"
        )
    text, options = conditioning[0]
    takes = _IMAGE if model.family.image_form == "channels" else set()
    refused = [
        key for key, value in options.items() if key not in takes and not _is_harmless(key, value, text)
    ]
    if refused:
        raise SamplingError(
            f"{name}: has {', '.join(sorted(refused))}, which this sampler would ignore; "
            "remove the node that adds it"
        )
    wanted = model.experts["high"].config.get("text_dim", 4096)  # 4096 in all published models
    if text.ndim != 3 or text.shape[0] != 1 or text.shape[2] != wanted:
        raise SamplingError(
            f"{name}: embeddings of shape {tuple(text.shape)}, but {model.family.name} needs "
            f"(1, tokens, {wanted}); encode the prompt with the text encoder of this model"
        )
    missing = model.family.text_length - text.shape[1]
    if missing < 0 and model.family.uses_clip:
        raise SamplingError(
            f"{name}: {text.shape[1]} tokens; with an image for CLIP {model.family.name} reads "
            f"{model.family.text_length}, so shorten the prompt"
        )
    padded = torch.nn.functional.pad(text.float().cpu(), (0, 0, 0, max(missing, 0)))
    if not takes:
        return Condition(padded)
    return Condition(padded, _channels(options, name, model), _features(options, model))


def to_conditioning(embeddings: Tensor) -> list[list[Any]]:
    """Wrap embeddings (1, L, D) as CONDITIONING."""
    return [[embeddings, {}]]


def with_images(conditioning: Conditioning, images: ImageConditions) -> list[list[Any]]:
    """Add images as the nodes of core do. Their mask is 0 where a frame is an input."""
    added: dict[str, Any] = {}
    if images.mask is not None:
        added = {"concat_latent_image": images.latents, "concat_mask": 1 - images.mask}
    if images.features is not None:
        added["clip_vision_output"] = SimpleNamespace(penultimate_hidden_states=images.features)
    return [[text, {**options, **added}] for text, options in conditioning]


def _channels(options: Mapping[str, Any], name: str, model: WanModel) -> Tensor | None:
    """Return the image of a condition and its mask as channels. None without an image."""
    from ..pipelines.generate.conditions import condition_channels

    latents, mask = options.get("concat_latent_image"), options.get("concat_mask")
    if latents is None:
        if mask is not None:
            raise SamplingError(f"{name}: has concat_mask without concat_latent_image; connect both")
        return None
    channels = model.family.latent_channels
    if latents.ndim != 5 or latents.shape[:2] != (1, channels):
        raise SamplingError(
            f"{name}: concat_latent_image has shape {tuple(latents.shape)}; {model.family.name} needs "
            f"(1, {channels}, frames, height, width)"
        )
    if mask is None:  # as in core: no frame is an input
        mask = latents.new_ones(1, 1, *latents.shape[2:])
    if mask.ndim != 5 or mask.shape[1] not in (1, 4) or mask.shape[2:] != latents.shape[2:]:
        raise SamplingError(
            f"{name}: concat_mask has shape {tuple(mask.shape)}; with this concat_latent_image it needs "
            f"(1, 1 or 4, {', '.join(map(str, latents.shape[2:]))})"
        )
    frames = 1 - mask.float().cpu().expand(1, 4, *mask.shape[2:])
    return condition_channels(frames, latents.float().cpu(), model.vae)


def _features(options: Mapping[str, Any], model: WanModel) -> Tensor | None:
    """Return the CLIP features for a model that uses them. Others ignore them, as in core."""
    seen = options.get("clip_vision_output")
    if seen is None or not model.family.uses_clip:
        return None
    features: Tensor = seen.penultimate_hidden_states
    return features.float().cpu()


def _is_harmless(key: str, value: Any, text: Tensor) -> bool:
    if value is None:
        return True
    if key == "attention_mask":
        return _hides_only_zeros(value, text)
    return key in _IDLE or (key in _NEUTRAL and bool(value == _NEUTRAL[key]))


def _hides_only_zeros(mask: Tensor, text: Tensor) -> bool:
    """Return whether the mask hides only zeros, the padding that the experts expect."""
    hidden = mask.reshape(1, -1) == 0
    return hidden.shape[1] == text.shape[1] and not bool(text[hidden.to(text.device)].any())
