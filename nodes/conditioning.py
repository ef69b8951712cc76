"""CONDITIONING as ComfyUI has it <-> the text an expert is conditioned on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..pipelines.errors import SamplingError

if TYPE_CHECKING:
    from torch import Tensor

    from ..pipelines.models.wan_model import WanModel
    from ..pipelines.sampling.engine import Condition

__all__ = ["from_conditioning", "to_conditioning"]

Conditioning = Sequence[Sequence[Any]]

# Keys that change nothing by themselves: Wan reads no pooled text, the others say how a mask, an area or a
# control acts, and those are refused.
_IDLE = {"pooled_output", "mask_strength", "set_area_to_bounds", "control_apply_to_uncond", "default", "uuid"}
# Keys that change nothing at this value.
_NEUTRAL = {
    "strength": 1,
    "start_percent": 0,
    "end_percent": 1,
    "clip_start_percent": 0,
    "clip_end_percent": 1,
}


def from_conditioning(conditioning: Conditioning, name: str, model: WanModel) -> Condition:
    """The one condition in `conditioning`, padded with zeros to the length the experts were trained on.

    name: the input, for the error. Raises SamplingError when there are several, when the embeddings are not
    of this model's text encoder, or when a key asks for something that this sampler would not do.
    """
    import torch

    from ..pipelines.sampling.engine import Condition

    if len(conditioning) != 1:
        raise SamplingError(
            f"{name}: {len(conditioning)} conditionings; combined ones are not understood, give one"
        )
    text, options = conditioning[0]
    refused = [key for key, value in options.items() if not _is_harmless(key, value, text)]
    if refused:
        raise SamplingError(
            f"{name}: carries {', '.join(sorted(refused))}, which this sampler would not act on; "
            "remove the node that adds it"
        )
    wanted = model.experts["high"].config.get("text_dim", 4096)  # the class's default, and every real model's
    if text.ndim != 3 or text.shape[0] != 1 or text.shape[2] != wanted:
        raise SamplingError(
            f"{name}: embeddings of shape {tuple(text.shape)}, but {model.family.name} needs "
            f"(1, tokens, {wanted}); encode the prompt with the text encoder of this model"
        )
    missing = model.family.text_length - text.shape[1]
    return Condition(torch.nn.functional.pad(text.float().cpu(), (0, 0, 0, max(missing, 0))))


def to_conditioning(embeddings: Tensor) -> list[list[Any]]:
    """embeddings: (1, L, D)."""
    return [[embeddings, {}]]


def _is_harmless(key: str, value: Any, text: Tensor) -> bool:
    if value is None:
        return True
    if key == "attention_mask":
        return _hides_only_zeros(value, text)
    return key in _IDLE or (key in _NEUTRAL and bool(value == _NEUTRAL[key]))


def _hides_only_zeros(mask: Tensor, text: Tensor) -> bool:
    """Whether the tokens masked away are padding, which is what the experts expect to see as zeros anyway."""
    hidden = mask.reshape(1, -1) == 0
    return hidden.shape[1] == text.shape[1] and not bool(text[hidden.to(text.device)].any())
