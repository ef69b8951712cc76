"""`wan-duet plan`: all settings that a run would use, and the memory that it needs."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..device.memory import DeviceMemory
from ..errors import LoraError, RequestError
from ..files.on_disk import write_whole
from ..plan.film_plan import plans_of_film
from ..plan.plan import Plan, make_plan
from ..plan.plan_text import describe
from ..plan.sigma_picture import picture_of_plan
from ..progress import Silent
from ..request.base import WanRequest
from ..request.check import check
from ..request.media_facts import MediaFacts
from ..request.seeds import seed_of
from ..request.shots import is_film
from ..video.output import require_writable
from .gpu_estimate import estimate_on_gpus
from .known_rates import known_rates
from .request_findings import RequestHere, found_in_loras, found_in_media, found_with_model, request_here
from .request_flags import add_precision, add_request_flags, add_residency, read_request, seconds_of
from .several_gpus import add_gpus, refuse_shots
from .subcommands import add_command
from .terminal import print_findings

if TYPE_CHECKING:
    from ..generate.memory_estimate import MemoryEstimate
    from ..generate.phase_cost import PhaseCost
    from ..loading.wan_model import WanModel

__all__ = ["add_plan_command"]


def add_plan_command(commands: Any, kind: str) -> None:
    """Add `plan`, with the flags of `kind`."""
    text = "print all settings that a run would use; loads no weights"
    planned = add_command(commands, "plan", _plan, text)
    planned.add_argument("--input-size", type=_size, metavar="WxH", help="size of the input image or video")
    add_gpus(planned)
    add_precision(planned)
    add_residency(planned)
    planned.add_argument(
        "--seconds-per-forward",
        type=seconds_of,
        metavar="S",
        help="measured seconds of one forward; adds an estimate of the time",
    )
    planned.add_argument(
        "--picture",
        type=_svg,
        metavar="OUT.svg",
        help="also draw the noise levels, the steps of each expert and the switch between them",
    )
    add_request_flags(planned, kind)


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write it as 1920x1080")
    return int(found[1]), int(found[2])


def _svg(text: str) -> Path:
    if not text.lower().endswith(".svg"):
        raise argparse.ArgumentTypeError(f"{text!r} is no .svg file; write OUT.svg")
    return Path(text)


def _plan(options: argparse.Namespace) -> int:
    here = request_here(options, read_request(options))
    request, model, family, seed = here.request, here.model, here.family, seed_of(here.request)
    if is_film(request):
        return _plan_film(options, here)
    # A plan may be looked at before its weights are there.
    whole = replace(here.abilities, missing_weights={})
    damaged, measured = found_in_media(request)
    warned = [replace(finding, status="warning") for finding in damaged]  # the same holds for its inputs
    media = MediaFacts(size=options.input_size) if options.input_size else measured
    found = [*found_in_loras(request), *found_with_model(here), *warned]
    report = check(request, family=family, abilities=whole, media=media, found=found)
    plan = make_plan(report.require(), family, seed or 0)
    if options.picture is not None:
        require_writable(options.picture)
        write_whole(options.picture, picture_of_plan(plan))
    text = describe(plan, seconds_per_forward=options.seconds_per_forward)
    estimate = None if model is None else _memory_estimate(model, plan)
    rates = known_rates(request, model).rates
    several = estimate_on_gpus(len(options.gpus), plan, family, model, rates) if options.gpus else None
    changes = None if model is None else _phase_cost(request, model, plan)
    if options.json:
        report = check(request, family=family, abilities=here.abilities, found=found)
        numbers = {**plan.as_dict(), "seed": seed}  # an unset seed is drawn when the request runs
        memory = None if estimate is None else estimate.as_dict()
        answer = {"text": text, "plan": numbers, "report": report.as_dict(), "memory": memory}
        if several is not None:
            answer["expected_on_gpus"] = several.as_dict()
        if changes is not None:
            answer["lora_changes"] = changes.as_dict()
        print(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        told = (each.text() for each in (estimate, several, changes) if each is not None)
        print("\n".join([text, *told]))
        print_findings(report.told)
    return 0


def _phase_cost(request: WanRequest, model: WanModel, plan: Plan) -> PhaseCost | None:
    """Measure a change of LoRA strengths. None without one, or while a LoRA is not on this machine."""
    if plan.phases is None or not plan.phases.moves:
        return None
    from ..embedded.toy_model import embedded_loras
    from ..generate.phase_cost import measure_phase_cost
    from ..generate.phase_loras import with_phase_loras
    from ..weights.lora.find import LoraSources

    sources = LoraSources(embedded=embedded_loras())
    try:
        attached = with_phase_loras(model, request.local, plan, sources, Silent(), allow_partial=True)
    except LoraError:
        return None
    return measure_phase_cost(attached, plan, DeviceMemory())


def _plan_film(options: argparse.Namespace, here: RequestHere) -> int:
    """Print the plan of every shot."""
    if options.gpus:
        refuse_shots(here.request)
    if options.picture is not None:
        raise RequestError.of("--picture", "given for shots", "draw the plan of one shot as its own kind")
    report = check(here.request, family=here.family, abilities=here.abilities, image_family=here.image_family)
    report.require()
    plans = plans_of_film(here.request, here.family, here.image_family, here.abilities)
    lines = [
        f"shot {number}: {describe(plan, seconds_per_forward=options.seconds_per_forward)}"
        for number, plan in enumerate(plans, 1)
    ]
    estimates = _memory_of_shots(here, plans)
    if options.json:
        text, shots = "\n".join(lines), [plan.as_dict() for plan in plans]
        memory = [estimate.as_dict() for estimate in estimates]
        answer = {"text": text, "shots": shots, "report": report.as_dict(), "memory": memory}
        print(json.dumps(answer, indent=2))
    else:
        told = (f"shot {number}: {estimate.text()}" for number, estimate in enumerate(estimates, 1))
        print("\n".join([*lines, *told]))
        print_findings(report.told)
    return 0


def _memory_of_shots(here: RequestHere, plans: Sequence[Plan]) -> list[MemoryEstimate]:
    """Return the estimate for each shot. Empty where no model is chosen."""
    models = {model.family.name: model for model in (here.image_model, here.model) if model is not None}
    return [_memory_estimate(models[plan.family], plan) for plan in plans if plan.family in models]


def _memory_estimate(model: WanModel, plan: Plan) -> MemoryEstimate:
    from ..generate.memory_estimate import estimate_memory
    from ..generate.phase_loras import phase_stand_ins

    networks = plan.networks[plan.start_step :]
    return estimate_memory(phase_stand_ins(model, plan), DeviceMemory(), plan.forward_shape, networks)
