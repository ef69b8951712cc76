"""Attaches the LoRAs of the phases of a run: each set of strengths makes one more network of its expert."""

from __future__ import annotations

from dataclasses import replace

from ..loading.host_model import AnyModel, HostModel
from ..loading.wan_model import WanModel
from ..plan.phase_schedule import PlannedPhase, lora_files
from ..plan.plan import Plan
from ..progress import Progress
from ..request.local_settings import LocalSettings
from ..request.lora_weight import LoRAWeight
from ..weights.lora.find import LoraSources
from .lora_chain import with_loras

__all__ = ["phase_stand_ins", "with_phase_loras"]


def with_phase_loras(
    model: AnyModel,
    local: LocalSettings | None,
    plan: Plan,
    sources: LoraSources,
    progress: Progress,
    *,
    allow_partial: bool = False,
) -> AnyModel:
    """Return `model` with a network for each phase whose LoRAs no other has. Reads no weights.

    local: of the request that `plan` is made from.

    Raises LoraError as `with_loras`, and whatever `progress.check` raises.
    """
    plain = model
    for name, phase in _named(plan).items():
        if not any(phase.strengths):
            continue
        made = with_loras(plain, _weights(local, phase), sources, progress, allow_partial=allow_partial)
        added = made.loras[len(plain.loras) :]
        if isinstance(made, HostModel) and isinstance(model, HostModel):
            networks = model.networks.with_network(name, made.networks, phase.expert)
            model = replace(model, networks=networks, loras=(*model.loras, *added))
        elif isinstance(made, WanModel) and isinstance(model, WanModel):
            variants = {**model.variants, name: made.experts[phase.expert]}
            model = replace(model, variants=variants, loras=(*model.loras, *added))
    return model


def phase_stand_ins(model: WanModel, plan: Plan) -> WanModel:
    """Return `model` with a network for each phase, without their LoRAs: to estimate what they need."""
    return replace(
        model, variants={name: model.experts[phase.expert] for name, phase in _named(plan).items()}
    )


def _named(plan: Plan) -> dict[str, PlannedPhase]:
    return {} if plan.phases is None else plan.phases.named


def _weights(local: LocalSettings | None, phase: PlannedPhase) -> list[LoRAWeight]:
    return [
        LoRAWeight(path=path, weight_name=weight_name, scale=strength, transformer=phase.expert)  # type: ignore[arg-type]
        for (path, weight_name), strength in zip(lora_files(local), phase.strengths, strict=True)
        if strength
    ]
