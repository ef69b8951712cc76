"""Provides the networks of ComfyUI of one model to a local run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from comfy import sd, utils

from ...pipelines.errors import ModelError
from ...pipelines.loading.architecture import layout_of_tensors
from ...pipelines.loading.host_model import HostPrompts, missing_part
from ..comfy_interface import ExecutionBlocker
from ..conditioning import with_images
from .facts import facts_of
from .stage import sample_stages

if TYPE_CHECKING:
    from torch import Tensor

    from ...pipelines.loading.host_model import HostStage, HostStart
    from ...pipelines.weights.recipe import Recipe

__all__ = ["ComfyNetworks"]

_LEAVES = ("weight", "bias", "modulation", "emb_pos")  # of a Wan transformer; quantised ones have more


@dataclass(frozen=True)
class ComfyNetworks:
    """Implements `pipelines.loading.host_model.HostNetworks`.

    experts: MODEL of "high" and perhaps "low". clip, clip_vision, vae: None if not connected.
    """

    experts: Mapping[str, Any]
    clip: Any | None = None
    clip_vision: Any | None = None
    vae: Any | None = None

    @property
    def dtype(self) -> torch.dtype:
        model = self.experts["high"].model
        return getattr(model, "manual_cast_dtype", None) or model.get_dtype()

    def sample(self, stages: Sequence[HostStage], start: HostStart, prompts: HostPrompts) -> Tensor:
        return sample_stages(self.experts, stages, start, prompts)

    def encode_prompts(self, prompts: Sequence[str]) -> list[Any]:
        if self.clip is None:
            raise ModelError(missing_part("clip"))
        return [self.clip.encode_from_tokens_scheduled(self.clip.tokenize(prompt)) for prompt in prompts]

    @property
    def count_tokens(self) -> Callable[[str], int] | None:
        return None if self.clip is None else partial(_count_tokens, self.clip)

    def image_features(self, images: Sequence[Tensor]) -> Tensor:
        if self.clip_vision is None:
            raise ModelError(missing_part("clip_vision"))
        shown = ((image.movedim(0, -1)[None] + 1) / 2 for image in images)
        # Not cropped: the official code gives CLIP the whole image, wan/modules/clip.py.
        seen = [self.clip_vision.encode_image(image, crop=False) for image in shown]
        return torch.cat([output.penultimate_hidden_states for output in seen], dim=1).float().cpu()

    def with_images(
        self, prompts: HostPrompts, latents: Tensor | None, mask: Tensor | None, features: Tensor | None
    ) -> HostPrompts:
        from ...pipelines.generate.conditions import ImageConditions

        images = ImageConditions(latents, mask, features)
        return HostPrompts(with_images(prompts.positive, images), with_images(prompts.negative, images))

    def decode_whole(self, latents: Tensor) -> Tensor:
        return self.vae.decode(latents)[0].float().cpu()

    def encode_whole(self, frames: Tensor) -> Tensor:
        return self.vae.encode(frames).float().cpu()

    def layout(self, expert: str) -> Recipe:
        named = self.experts[expert].model.diffusion_model.named_parameters()
        return layout_of_tensors(
            {name: tensor for name, tensor in named if name.rpartition(".")[2] in _LEAVES}
        )

    def with_lora(self, file: Path, strength: float, expert: str) -> tuple[ComfyNetworks, int]:
        before = self.experts[expert]
        after, _ = sd.load_lora_for_models(before, None, utils.load_torch_file(str(file)), strength, 0)
        added = sum(len(after.patches[key]) > len(before.patches.get(key, ())) for key in after.patches)
        return replace(self, experts={**self.experts, expert: after}), added

    def with_network(self, name: str, networks: ComfyNetworks, expert: str) -> ComfyNetworks:
        return replace(self, experts={**self.experts, name: networks.experts[expert]})

    def sockets(self) -> tuple[Any, Any, Any, Any]:
        """Return MODEL, MODEL, CLIP and VAE, each an ExecutionBlocker if it is not connected."""
        found = {**self.experts, "clip": self.clip, "vae": self.vae}
        return tuple(
            ExecutionBlocker(missing_part(name)) if found.get(name) is None else found[name]
            for name in ("high", "low", "clip", "vae")
        )

    def record(self) -> dict[str, Any]:
        found = {name: facts_of(model, name) for name, model in self.experts.items()}
        return {
            name: {"class": facts.config, "file": facts.file, "patches": list(facts.patches)}
            for name, facts in found.items()
        }


def _count_tokens(clip: Any, prompt: str) -> int:
    """Count the tokens of a CLIP with one text encoder; it fills up to 512 of them."""
    (segments,) = clip.tokenize(prompt).values()
    return sum(map(len, segments))
