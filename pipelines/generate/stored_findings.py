"""Says how the layers of a model are stored, and what `precision: stored` does with them on a device."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import asdict, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from ..errors import WanDuetError
from ..loading.host_model import AnyModel, HostModel
from ..progress import Silent
from ..request.base import WanRequest
from ..request.local_settings import stage_loras
from ..request.report import Finding
from ..weights.format_counts import format_counts
from ..weights.lora.find import LoraSources
from ..weights.stored_layers import StoredUse, side_share, work_by_way

if TYPE_CHECKING:
    import torch

__all__ = [
    "expected_stored_findings",
    "expected_work",
    "formats_of",
    "formats_text",
    "stored_findings",
    "stored_record",
    "stored_work",
]


def formats_of(model: AnyModel | None) -> dict[str, dict[str, int]]:
    """Return how many matrices of each expert are stored in which format. Empty where the host has them."""
    if model is None or isinstance(model, HostModel):
        return {}
    return {name: format_counts(recipe) for name, recipe in model.experts.items()}


def formats_text(model: AnyModel | None) -> str:
    """Return `formats_of` in one line, such as `stored as: high: 280 fp8 with one scale, 12 bfloat16`."""
    told = (
        f"{name}: {', '.join(f'{count} {kind}' for kind, count in counts.items())}"
        for name, counts in formats_of(model).items()
    )
    found = "; ".join(told)
    return f"stored as: {found}" if found else ""


def stored_findings(model: AnyModel, device: torch.device) -> list[Finding]:
    """Return the finding of a model that is to compute on stored numbers; none for any other."""
    if isinstance(model, HostModel) or model.precision != "stored":
        return []
    layers: Counter[StoredUse] = Counter()
    for use in chain.from_iterable(model.stored_uses(device).values()):
        layers[replace(use, layers=0)] += use.layers
    text = "; ".join(replace(use, layers=count).text() for use, count in layers.items())
    if not any(use.way for use in layers):
        reason = f"nothing computes on stored numbers here, so the run is exact: {text}"
        return [Finding("precision", "adjusted", "stored", "auto", reason)]
    share = max(side_share(recipe) for recipe in model.experts_on(device).values())
    loras = f"; LoRAs beside the products add {share:.1%} to their work" if share else ""
    return [Finding("precision", "warning", "stored", "stored", f"lossy by choice: {text}{loras}")]


def expected_stored_findings(
    model: AnyModel | None, request: WanRequest, sources: LoraSources, device: torch.device
) -> list[Finding]:
    """Return what `stored_findings` will say once the LoRAs of the request are attached.

    sources: those without downloads. LoRAs that are not here or do not fit are told elsewhere.
    """
    if model is None or model.precision != "stored":
        return []
    return stored_findings(_with_loras_here(model, request, sources), device)


def expected_work(
    model: AnyModel | None, request: WanRequest, sources: LoraSources, device: torch.device
) -> dict[str | None, float]:
    """Return what `stored_work` will be once the LoRAs of the request are attached.

    sources: as of `expected_stored_findings`.
    """
    if model is None or model.precision != "stored":
        return {}
    return stored_work(_with_loras_here(model, request, sources), device)


def stored_work(model: AnyModel, device: torch.device) -> dict[str | None, float]:
    """Return `work_by_way` of the experts, on average; empty unless they compute on stored numbers."""
    work: dict[str | None, float] = {}
    if isinstance(model, HostModel) or model.precision != "stored":
        return work
    computing = model.experts_on(device)
    for name in model.experts:
        for way, share in work_by_way(computing[name]).items():
            work[way] = work.get(way, 0.0) + share / len(model.experts)
    return work


def _with_loras_here(model: AnyModel, request: WanRequest, sources: LoraSources) -> AnyModel:
    from .lora_chain import with_loras  # and httpx with it, which no other check needs

    loras = [*(getattr(request, "loras", None) or ()), *stage_loras(request.local)]
    with contextlib.suppress(WanDuetError):
        return with_loras(model, loras, sources, Silent(), allow_partial=True)
    return model


def stored_record(model: AnyModel, device: torch.device) -> dict[str, Any]:
    """Return what a receipt says of it: nothing unless it was chosen."""
    if isinstance(model, HostModel) or model.precision != "stored":
        return {}
    uses = model.stored_uses(device)
    return {"stored": {expert: [asdict(use) for use in of_expert] for expert, of_expert in uses.items()}}
