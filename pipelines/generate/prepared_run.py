"""Everything that is decided before a run starts, as one value for all stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..device.memory import Memory, compute_dtype
from ..errors import ModelError
from ..interpolation.found_interpolators import Interpolators
from ..kernels.choices import FloatChoices, KernelChoice
from ..loading.host_model import AnyModel, HostModel
from ..loading.wan_model import WanModel
from ..networks.safety_checker import SafetyChecker
from ..parallel.gpu_world import GpuRanks
from ..plan.cache_choice import CacheChoice
from ..plan.plan import Plan
from ..progress import Progress
from ..request.base import WanRequest
from ..request.report import Finding, Report, Tell, silent
from ..video.frame_stream import Frame
from .kept_latents import KeptLatents
from .media_inputs import MediaInputs
from .memory_estimate import MemoryEstimate

__all__ = ["Run"]


@dataclass(frozen=True)
class Run:
    """A run whose decisions are made and whose networks are not loaded yet.

    report:   the report of the check; the receipt lists its findings.
    tell:     says findings to the user, when they are made.
    model:    the model with the LoRAs of the request.
    estimate: the memory that the run needs, and how much of the experts stays on the device.
    choices:  the kernels of the experts. vae_kernels: those of the VAE.
    checker:  the safety checker, if the request needs one.
    prompt:   the expanded prompt of the receipt, when a run is repeated.
    tags:     more metadata for the file. embed_receipt: whether the file also contains the receipt.
    cache: the step cache; None computes every step.
    kept:     where finished latents are looked up and kept; None always samples.
    lead:     the frames after the first image that are given too, in the size of the plan.
    anchored: latent frames (1, C, k, H/8, W/8) in VAE space, perhaps none: only the first image is given, and
              these after it. None gives the first image, `lead` and the last image.
    ranks:    share the sampling; only rank 0 decodes and writes. None for one device.
    """

    request: WanRequest
    report: Report
    plan: Plan
    model: AnyModel
    inputs: MediaInputs
    memory: Memory
    progress: Progress
    estimate: MemoryEstimate
    choices: FloatChoices
    vae_kernels: KernelChoice
    checker: SafetyChecker | None
    out: Path
    prompt: str | None = None
    interpolators: Interpolators = field(default_factory=Interpolators)
    tags: Mapping[str, str] = field(default_factory=dict)
    embed_receipt: bool = True
    return_images: bool = False
    check_memory: bool = True
    cache: CacheChoice | None = None
    kept: KeptLatents | None = None
    lead: tuple[Frame, ...] = ()
    anchored: Tensor | None = None
    ranks: GpuRanks | None = None
    tell: Tell = silent

    @property
    def own_model(self) -> WanModel:
        """The model, for stages that only our own engine has. Raises ModelError for one of the host."""
        if isinstance(self.model, HostModel):
            raise ModelError(
                f"{self.model.name}: {self.request.task} runs only on a model of Wan Duet Load Model"
            )
        return self.model

    def say(self, findings: Sequence[Finding]) -> None:
        """Tell the user findings of the run that the check could not make."""
        new = [finding for finding in findings if finding not in self.report.findings]
        if new:
            self.tell(new)

    @property
    def devices(self) -> tuple[torch.device, ...]:
        """All devices that compute: those of the ranks, or the one of `memory`."""
        return (self.memory.device,) if self.ranks is None else tuple(map(torch.device, self.ranks.devices))

    @property
    def dtype(self) -> torch.dtype:
        """The dtype in which the transformer computes."""
        if isinstance(self.model, HostModel):
            return self.model.networks.dtype
        return compute_dtype(self.model.precision, self.memory, "transformer")
