"""Finds what the sampler of a building block does, and its user may not expect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from ..loading.host_model import AnyModel
from ..request.distilled import distilled_findings
from ..request.report import Finding
from ..request.side_effects import beyond_training
from .lora_findings import attached_remarks
from .required_weights import expert_file_names, lora_names
from .stored_findings import stored_findings

__all__ = ["sampler_findings"]


def sampler_findings(
    model: AnyModel, steps: int, guidance: Mapping[str, float], latent_frames: int, device: torch.device
) -> Iterator[Finding]:
    """Yield warnings about LoRAs on the other expert, settings of distilled weights, long clips, and
    `precision: stored`.

    guidance: {name of the input: scale}, for the experts that this sampler uses.
    """
    family = model.family
    if family.experts == 2:
        for remark in attached_remarks(model.loras):
            yield Finding("model", "warning", family.name, family.name, remark)
    yield from distilled_findings(
        {"steps": steps, **guidance}, [*lora_names(model), *expert_file_names(model)]
    )
    frames = (latent_frames - 1) * family.vae_stride[0] + 1
    yield from beyond_training("latent", frames, family.trained_frames)
    yield from stored_findings(model, device)
