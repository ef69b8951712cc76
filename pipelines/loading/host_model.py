"""A model that another program holds, such as ComfyUI with its MODEL, CLIP and VAE.

It travels on the same socket as `WanModel`. That program runs its networks, with all that was patched onto
them; plan, solvers and guidance stay ours.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

from ..device.memory import KeepAlive
from ..device.precision import Precision
from ..errors import LoraError, ModelError
from ..kernels.choices import Preferences
from ..plan.families import Family
from ..weights.hashing import file_hash
from ..weights.lora.attach import MATCH_AT_LEAST, attach_lora
from ..weights.lora.coverage import LoraReport
from ..weights.lora.lora_file import read_lora
from ..weights.recipe import Recipe
from .host_family import HostFacts
from .wan_model import WanModel

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = [
    "AnyModel",
    "HostModel",
    "HostNetworks",
    "HostPrompts",
    "HostStage",
    "HostStart",
    "has_whole_vae",
    "missing_part",
]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HostPrompts:
    """Positive and negative conditioning in the form of the host. Nobody here looks into it."""

    positive: Any
    negative: Any


@dataclass(frozen=True)
class HostStart:
    """What sampling starts from.

    latents: (B, C, T, H/8, W/8) in VAE space. Where `noise` is None they still hold noise of the first
             sigma, in the leftover form x / (1 - sigma).
    noise:   normal noise of the same shape.
    mask:    noise mask in the form of the host: 0 where `latents` stay as they are; None samples everything.
    seed:    of the run, for patches that draw noise of their own.
    """

    latents: Tensor
    noise: Tensor | None
    mask: Tensor | None
    seed: int


@dataclass(frozen=True)
class HostStage:
    """Consecutive steps on one network.

    expert:        name of the network: an expert, or one that `with_network` added.
    sigmas:        n + 1 noise levels.
    expert_sigmas: the noise levels that the expert receives: timestep / 1000, which official solvers
    truncate.
    guidance:      scale of classifier-free guidance.
    pure:          start from the noise alone, whatever sigmas[0] is.
    walk:          makes the n steps from noisy, normalised latents, and returns the latents after them. Its
                   second argument, (latents, expert sigma) -> clean estimate, calls the expert. Its third is
                   called after each velocity with (step of the stage from 0, clean estimate, latents before
                   the step).
    report:        the caller's third argument for `walk`. The host may wrap it.
    """

    expert: str
    sigmas: tuple[float, ...]
    expert_sigmas: tuple[float, ...]
    guidance: float
    pure: bool
    walk: Callable[[Tensor, Callable[[Tensor, float], Tensor], Callable[[int, Tensor, Tensor], None]], Tensor]
    report: Callable[[int, Tensor, Tensor], None]


class HostNetworks(Protocol):
    """What a local run needs from the program that holds the networks."""

    def sample(self, stages: Sequence[HostStage], start: HostStart, prompts: HostPrompts) -> Tensor:
        """Run the stages in order. Returns latents in VAE space, float32, on the CPU.

        If the last sigma is above 0, they have leftover noise.
        """

    def encode_prompts(self, prompts: Sequence[str]) -> list[Any]:
        """Return the conditioning of each prompt. Raises ModelError without a text encoder."""

    def image_features(self, images: Sequence[Tensor]) -> Tensor:
        """Return the CLIP features (1, tokens, D) of `images` (3, H, W) in [-1, 1], concatenated.

        Raises ModelError without an image encoder.
        """

    def with_images(
        self, prompts: HostPrompts, latents: Tensor | None, mask: Tensor | None, features: Tensor | None
    ) -> HostPrompts:
        """`prompts` with the images of `generate.conditions.ImageConditions` on both."""

    def decode_whole(self, latents: Tensor) -> Tensor:
        """Frames (T, H, W, 3) in [0, 1] of `latents` in VAE space, by the VAE of the host, all at once."""

    def encode_whole(self, frames: Tensor) -> Tensor:
        """Latents (1, C, T, h, w) in VAE space, float32, of `frames` (T, H, W, 3) in [0, 1], all at once."""

    def layout(self, expert: str) -> Recipe:
        """Names and shapes of the weights of an expert, to hold a LoRA against."""

    def with_lora(self, file: Path, strength: float, expert: str) -> tuple[HostNetworks, int]:
        """These networks with a LoRA, attached by the host, and how many tensors it changes."""

    def with_network(self, name: str, networks: HostNetworks, expert: str) -> HostNetworks:
        """These networks with one more under a name of its own: an expert of `networks`."""

    def record(self) -> dict[str, Any]:
        """For the receipt: class, file and patches of each expert, by name."""

    @property
    def dtype(self) -> torch.dtype:
        """In which the experts compute."""

    @property
    def count_tokens(self) -> Callable[[str], int] | None:
        """Counts the tokens of a prompt, padding included. None without a text encoder."""

    @property
    def clip_vision(self) -> Any | None:
        """The image encoder, None where none is connected."""


@dataclass(frozen=True)
class HostModel:
    """One model of the host.

    name:      of the class of its networks, for messages.
    boundary:  share of the noise range from which on the high expert works; None with a single expert.
    networks:  the port behind which the host runs them.
    vae_recipe: of the Wan VAE of the host; None where none is connected.
    precision: in which that VAE computes.
    whole_vae: class of a VAE that is no Wan VAE, so that only the host can run it; empty where there is none.
    facts:     what the host knows of each expert. notes: what a check says of them.
    The other fields are those of `WanModel`.
    """

    name: str
    family: Family
    boundary: float | None
    networks: HostNetworks = field(repr=False)
    vae_recipe: Recipe | None = field(default=None, repr=False)
    precision: Precision = "auto"
    whole_vae: str = ""
    loras: tuple[LoraReport, ...] = ()
    keep_alive: KeepAlive = field(default_factory=KeepAlive, repr=False, compare=False)
    prompt_expander: Path | None = None
    safety_checker: Path | None = None
    preferences: Preferences = field(default_factory=Preferences)
    facts: Mapping[str, HostFacts] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    gpus: None = None

    @property
    def vae(self) -> Recipe:
        """Raises ModelError when no VAE is connected."""
        if self.vae_recipe is None:
            raise ModelError(missing_part("vae"))
        return self.vae_recipe

    def with_lora(
        self, file: Path, scale: float, transformer: str, *, allow_partial: bool = False
    ) -> HostModel:
        """As `WanModel.with_lora`. The host attaches the LoRA; the report is ours."""
        targets = tuple(self.facts) if transformer == "both" or len(self.facts) == 1 else (transformer,)
        lora, networks, reports = read_lora(file), self.networks, list(self.loras)
        if lora.alphas_elsewhere:
            raise LoraError(
                f"{file.name}: its alphas stand in adapter_config.json or in the header of the file, where "
                "ComfyUI does not read them: it would apply another strength; use Wan Duet Load Model"
            )
        for name in targets:
            _, report = attach_lora(networks.layout(name), lora, scale, name, allow_partial=allow_partial)
            networks, attached = networks.with_lora(file, scale, name)
            _require_attached(report, attached, allow_partial)
            reports.append(report)
        return replace(self, networks=networks, loras=tuple(reports))

    def hashes(self) -> dict[str, str]:
        """Content hash of every LoRA that a request attached. The host's own files are named, not hashed."""
        loras = dict.fromkeys(report.file for report in self.loras)
        return {f"loras[{index}]/{file.name}": file_hash(file) for index, file in enumerate(loras)}


AnyModel = WanModel | HostModel


def _require_attached(report: LoraReport, attached: int, allow_partial: bool) -> None:
    """Raise LoraError when the host understood too little of a LoRA that fits the expert."""
    wanted = report.coverage.tensors
    if attached >= wanted:
        return
    found = (
        f"{report.file.name}: ComfyUI attaches {attached} of {wanted} tensors on the {report.expert} expert"
    )
    if attached < MATCH_AT_LEAST * wanted and not allow_partial:
        raise LoraError(
            f"{found}; use Wan Duet Load Model, which reads this dialect, or allow a partial match"
        )
    log.warning("%s", found)


_PARTS: Mapping[str, str] = {
    "low": "the MODEL of the low-noise expert",
    "vae": "Load VAE",
    "clip": "Load CLIP of type wan",
    "clip_vision": "Load CLIP Vision",
}


def has_whole_vae(model: object) -> TypeGuard[HostModel]:
    """Return whether only the host can run the VAE of `model`, on a whole clip at once."""
    return isinstance(model, HostModel) and bool(model.whole_vae)


def missing_part(part: str) -> str:
    """Say that an input of Wan Duet Model from ComfyUI is not connected. part: name of the input."""
    where = "not connected to Wan Duet Model from ComfyUI"
    return f"{part}: {where}, but this step needs it; connect {_PARTS[part]}"
