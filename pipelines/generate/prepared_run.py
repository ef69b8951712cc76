"""A run, decided: one value that every stage gets whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..device.memory import Memory, compute_dtype
from ..interpolation.interpolator_files import Interpolators
from ..kernels.choices import FloatChoices
from ..loading.wan_model import WanModel
from ..networks.safety_checker import SafetyChecker
from ..plan.plan import Plan
from ..progress import Progress
from ..request.base import WanRequest
from ..request.report import Report
from .media_inputs import MediaInputs
from .memory_estimate import MemoryEstimate

__all__ = ["Run"]


@dataclass(frozen=True)
class Run:
    """Everything that is decided before anything is loaded.

    report:  of the check, whose adjustments the receipt names.
    model:   with the LoRAs of the request.
    estimate:   what the run will take in memory, and how the experts share the device.
    choices: how the experts compute.
    checker: the safety checker that the switches of the request need.
    prompt:  as a receipt has it, expanded already; None before that.
    tags:    metadata for the file beside the receipt; embed_receipt: whether the file carries that too.
    cache_threshold: of the step cache; None computes every step.
    """

    request: WanRequest
    report: Report
    plan: Plan
    model: WanModel
    inputs: MediaInputs
    memory: Memory
    progress: Progress
    estimate: MemoryEstimate
    choices: FloatChoices
    checker: SafetyChecker | None
    out: Path
    prompt: str | None = None
    interpolators: Interpolators = field(default_factory=Interpolators)
    tags: Mapping[str, str] = field(default_factory=dict)
    embed_receipt: bool = True
    return_images: bool = False
    check_memory: bool = True
    cache_threshold: float | None = None

    @property
    def dtype(self) -> torch.dtype:
        """What networks compute in."""
        return compute_dtype(self.model.precision, self.memory, "transformer")
