"""What this machine says of a request before a run. Torch is loaded only for files that need it."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from ..embedded.toy_model import embedded_loras
from ..plan.families import Family
from ..request.base import WanRequest
from ..request.field_case import LocalAbilities
from ..request.field_rows import media_named
from ..request.kinds import class_of
from ..request.media_facts import NOTHING_KNOWN, MediaFacts
from ..request.report import Finding

if TYPE_CHECKING:
    from ..loading.wan_model import WanModel

__all__ = ["abilities_of", "found_in_loras", "found_in_media", "found_with_model"]


def found_in_loras(request: WanRequest) -> list[Finding]:
    """Return what the LoRA files of a request say of themselves."""
    if not _has_loras(request):
        return []
    from ..generate.lora_findings import lora_findings
    from ..weights.lora.find import LoraSources

    return lora_findings(request, LoraSources(embedded=embedded_loras()))


def found_with_model(request: WanRequest, model: WanModel | None, family: Family) -> list[Finding]:
    """Return which LoRA files do not fit the model.

    Of one that is to compute on stored numbers, also what it does with its formats on this device.
    """
    stored = model is not None and model.precision == "stored"
    if not stored and not _has_loras(request):
        return []
    from ..device.memory import DeviceMemory
    from ..generate.lora_findings import fit_findings
    from ..generate.stored_findings import expected_stored_findings
    from ..weights.lora.find import LoraSources

    sources = LoraSources(embedded=embedded_loras())
    found = fit_findings(request, sources, model, family)
    if model is not None and stored:
        found += expected_stored_findings(model, request, sources, DeviceMemory().device)
    return found


def found_in_media(request: WanRequest) -> tuple[list[Finding], MediaFacts]:
    """Return what is wrong with input files, and their facts."""
    if not media_named(dict(request)):
        return [], NOTHING_KNOWN
    from ..generate.media_inputs import media_findings

    return media_findings(request)


def abilities_of(options: argparse.Namespace, model: WanModel | None) -> LocalAbilities:
    """Return what the local runner can do. Without a model and a folder this does not load torch."""
    known = LocalAbilities()
    if model is not None or options.interpolator_folder:
        from ..generate.local_abilities import local_abilities
        from ..generate.required_weights import with_lightning
        from ..interpolation.interpolator_files import find_interpolators
        from ..weights.lora.find import LoraSources

        ready = None if model is None else with_lightning(model, class_of(options.kind).task, LoraSources())
        known = local_abilities(find_interpolators(options.interpolator_folder), ready)
    return replace(
        known,
        prompt_expander=options.prompt_expander is not None,
        safety_checker=options.safety_checker is not None,
    )


def _has_loras(request: WanRequest) -> bool:
    local = request.local
    of_phases = () if local is None else (*local.loras_per_stage, *(one.loras for one in local.phases))
    return bool(getattr(request, "loras", None) or any(of_phases))
