"""A model that another program holds, such as ComfyUI with its MODEL, CLIP and VAE.

It travels on the same socket as `WanModel`. That program runs its networks, with all that was patched onto
them; plan, solvers and guidance stay ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..device.memory import KeepAlive
from ..device.precision import Precision
from ..errors import ModelError
from ..kernels.choices import Preferences
from ..plan.families import Family
from ..weights.lora.coverage import LoraReport
from ..weights.recipe import Recipe
from .host_family import HostFacts

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["HostModel", "HostNetworks", "HostPrompts", "HostStage", "HostStart"]


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
    """Steps in a row on one expert.

    sigmas: n + 1 noise levels.
    told:   the same as the expert is told them: timestep / 1000, which official solvers truncate.
    guidance: scale of classifier-free guidance.
    pure:   start from the noise alone, whatever sigmas[0] is.
    walk:   makes the n steps from noisy, normalised latents, and returns the latents after them. Its second
            argument, (latents, told sigma) -> clean estimate, asks the expert; its third is called after each
            velocity with (step of the stage from 0, clean estimate, latents before the step).
    report: that third argument, as the caller wants to be told. The host may wrap it.
    """

    expert: str
    sigmas: tuple[float, ...]
    told: tuple[float, ...]
    guidance: float
    pure: bool
    walk: Callable[[Tensor, Callable[[Tensor, float], Tensor], Callable[[int, Tensor, Tensor], None]], Tensor]
    report: Callable[[int, Tensor, Tensor], None]


class HostNetworks(Protocol):
    """What a local run asks of the program that holds the networks."""

    def sample(self, stages: Sequence[HostStage], start: HostStart, prompts: HostPrompts) -> Tensor:
        """Run the stages, one after another. Returns latents in VAE space, float32, on the CPU; with
        leftover noise when the last sigma is above 0.
        """


@dataclass(frozen=True)
class HostModel:
    """One model of the host.

    name:      of the class of its networks, for messages.
    boundary:  share of the noise range from which on the high expert works; None with a single expert.
    networks:  the port behind which the host runs them.
    vae_recipe: of the Wan VAE of the host; None where none is connected.
    precision: in which that VAE computes.
    facts:     what the host knows of each expert. notes: what a check says of them.
    The other fields are those of `WanModel`.
    """

    name: str
    family: Family
    boundary: float | None
    networks: HostNetworks = field(repr=False)
    vae_recipe: Recipe | None = field(default=None, repr=False)
    precision: Precision = "auto"
    loras: tuple[LoraReport, ...] = ()
    keep_alive: KeepAlive = field(default_factory=KeepAlive, repr=False, compare=False)
    prompt_expander: Path | None = None
    safety_checker: Path | None = None
    preferences: Preferences = field(default_factory=Preferences)
    facts: Mapping[str, HostFacts] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def vae(self) -> Recipe:
        """Raises ModelError when no VAE is connected."""
        if self.vae_recipe is None:
            raise ModelError(missing_part("vae"))
        return self.vae_recipe


_PARTS: Mapping[str, str] = {
    "vae": "Load VAE",
    "clip": "Load CLIP of type wan",
    "clip_vision": "Load CLIP Vision",
}


def missing_part(part: str) -> str:
    """Say that an input of Wan Duet Model from ComfyUI is not connected. part: name of the input."""
    where = "not connected to Wan Duet Model from ComfyUI"
    return f"{part}: {where}, but this step needs it; connect {_PARTS[part]}"
