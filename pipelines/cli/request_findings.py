"""What this machine says of a request before a run. Torch is loaded only for files that need it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..embedded.toy_model import embedded_loras
from ..plan.families import Family, default_family
from ..request.base import WanRequest
from ..request.field_case import LocalAbilities
from ..request.field_rows import media_named
from ..request.kinds import class_of
from ..request.media_facts import NOTHING_KNOWN, MediaFacts
from ..request.report import Finding
from ..request.shots_request import SHOTS
from .request_flags import chosen_image_model, chosen_model

if TYPE_CHECKING:
    from ..interpolation.found_interpolators import Interpolators
    from ..loading.wan_model import WanModel

__all__ = [
    "RequestHere",
    "abilities_of",
    "found_in_loras",
    "found_in_media",
    "found_with_model",
    "request_here",
]


@dataclass(frozen=True)
class RequestHere:
    """A request, and what this machine has for it.

    family:       of the model; without one the usual family of the kind.
    image_family: of shots from an image; None: that of the other shots.
    image_model:  the model of such shots, where it is one of its own.
    """

    request: WanRequest
    model: WanModel | None
    family: Family
    image_family: Family | None
    abilities: LocalAbilities
    image_model: WanModel | None = None


def request_here(options: argparse.Namespace, request: WanRequest) -> RequestHere:
    """Return the request with the models of the command line. Reads their headers alone."""
    model, image_model = chosen_model(options), chosen_image_model(options)
    family = default_family(class_of(options.kind).task) if model is None else model.family
    image_family = None if image_model is None else image_model.family
    if image_model is None and options.kind == SHOTS and options.model is None:
        image_family = default_family("image-to-video")
    return RequestHere(request, model, family, image_family, abilities_of(options, model), image_model)


def found_in_loras(request: WanRequest) -> list[Finding]:
    """Return what the LoRA files of a request say of themselves."""
    if not _has_loras(request):
        return []
    from ..generate.lora_findings import lora_findings
    from ..weights.lora.find import LoraSources

    return lora_findings(request, LoraSources(embedded=embedded_loras()))


def found_with_model(here: RequestHere) -> list[Finding]:
    """Return which LoRA files do not fit the model.

    Of one that is to compute on stored numbers, also what it does with its formats on this device.
    """
    request, model = here.request, here.model
    stored = model is not None and model.precision == "stored"
    if not stored and not _has_loras(request):
        return []
    from ..device.memory import DeviceMemory
    from ..generate.lora_findings import fit_findings
    from ..generate.stored_findings import expected_stored_findings
    from ..weights.lora.find import LoraSources

    sources = LoraSources(embedded=embedded_loras())
    found = fit_findings(request, sources, model, here.family)
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
        from ..weights.lora.find import LoraSources

        ready = None if model is None else with_lightning(model, class_of(options.kind).task, LoraSources())
        known = local_abilities(_interpolators(options), ready)
    return replace(
        known,
        prompt_expander=options.prompt_expander is not None,
        safety_checker=options.safety_checker is not None,
    )


def _interpolators(options: argparse.Namespace) -> Interpolators:
    """Return the interpolators of the folders. Loads torch only if there are some."""
    from ..interpolation.found_interpolators import Interpolators

    if not options.interpolator_folder:
        return Interpolators()
    from ..interpolation.interpolator_files import find_interpolators

    return find_interpolators(options.interpolator_folder)


def _has_loras(request: WanRequest) -> bool:
    local = request.local
    of_phases = () if local is None else (*local.loras_per_stage, *(one.loras for one in local.phases))
    return bool(getattr(request, "loras", None) or any(of_phases))
