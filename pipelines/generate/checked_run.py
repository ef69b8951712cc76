"""A request that was checked and planned for this machine, with its inputs and its LoRAs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from ..errors import RequestError
from ..interpolation.found_interpolators import Interpolators
from ..loading.host_model import AnyModel, HostModel
from ..plan.cache_choice import CacheChoice
from ..plan.plan import Plan, make_plan
from ..progress import Progress
from ..request.base import WanRequest
from ..request.check import check
from ..request.local_settings import stage_loras
from ..request.report import Finding, Report
from ..request.seeds import seed_for_run
from ..request.seeds_of_count import one_per_seed
from ..video.local_file import FindFile, any_file
from ..weights.lora.find import LoraSources
from .local_abilities import local_abilities
from .lora_chain import with_loras
from .lora_findings import fit_findings, lora_findings
from .media_inputs import MediaInputs, read_media_inputs
from .phase_loras import with_phase_loras
from .required_weights import with_lightning
from .speech_run import SPEECH

__all__ = ["Acceleration", "Checked", "attach_loras", "checked", "with_lora_findings"]

Acceleration = Literal["exact", "as requested"]


@dataclass(frozen=True)
class Checked:
    """A request that can run here. model: with its LoRAs. cache: the step cache, if any."""

    report: Report
    plan: Plan
    model: AnyModel
    inputs: MediaInputs
    cache: CacheChoice | None


def checked(
    request: WanRequest,
    model: AnyModel,
    *,
    interpolators: Interpolators,
    lora_sources: LoraSources,
    progress: Progress,
    media: Mapping[str, Path] = MappingProxyType({}),
    find: FindFile = any_file,
    found: Sequence[Finding] = (),
    acceleration: Acceleration = "exact",
    allow_partial_loras: bool = False,
    pose_video: Path | None = None,
    max_seconds: float | None = None,
    inputs: MediaInputs | None = None,
) -> Checked:
    """Check and plan the request, read its inputs and attach its LoRAs. Loads no weights.

    inputs: those of a request whose files are not there yet. The others are arguments of `run`.

    Raises RequestError, MediaError and ModelError as `run` does before it
    loads anything.
    """
    if len(one_per_seed(request)) > 1:
        raise RequestError.of("local.count", "not 1 in a single run", "run each request of `one_per_seed`")
    inputs = read_media_inputs(request, media, find) if inputs is None else inputs
    model = with_lightning(model, request.task, lora_sources)
    # A host brings step caches of its own, as patches on its MODEL.
    step_cache = acceleration == "as requested" and not isinstance(model, HostModel)
    abilities = replace(local_abilities(interpolators, model), step_cache=step_cache)
    report = check(request, family=model.family, abilities=abilities, media=inputs.facts, found=found)
    resolved = report.require()
    if request.task != SPEECH:
        for name, value in (("pose_video", pose_video), ("max_seconds", max_seconds)):
            if value is not None:
                fix = f"leave it out; only {SPEECH} uses it"
                raise RequestError.of(name, f"given for {request.task}", fix)
    seed = seed_for_run(request, "local")
    plan = make_plan(resolved, model.family, seed, boundary=model.boundary, max_seconds=max_seconds)
    model = attach_loras(request, model, plan, lora_sources, progress, allow_partial=allow_partial_loras)
    report = with_lora_findings(report, request, lora_sources, model)
    return Checked(report, plan, model, inputs, CacheChoice.of(resolved, model.family))


def attach_loras(
    request: WanRequest,
    model: AnyModel,
    plan: Plan,
    sources: LoraSources,
    progress: Progress,
    *,
    allow_partial: bool,
) -> AnyModel:
    loras = [*(getattr(request, "loras", None) or ()), *stage_loras(request.local)]
    model = with_loras(model, loras, sources, progress, allow_partial=allow_partial)
    return with_phase_loras(model, request.local, plan, sources, progress, allow_partial=allow_partial)


def with_lora_findings(report: Report, request: WanRequest, sources: LoraSources, model: AnyModel) -> Report:
    """Add what the files of the LoRAs say. Attaching them has refused those that do not fit."""
    told = report.with_findings(lora_findings(request, sources, model.family.experts))
    return told.with_findings(fit_findings(request, sources, model, model.family, allow_partial=True))
