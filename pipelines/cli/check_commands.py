"""`wan-duet check`, `plan` and `bench`: what a run would do, need and take, without running it."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..device.memory import DeviceMemory
from ..errors import LoraError, RequestError
from ..files.on_disk import write_whole
from ..plan.expectation import Expectation, Rates, expect, expect_all, read_rates, write_rates
from ..plan.families import Family
from ..plan.film_plan import plans_of_film
from ..plan.flops import SIZES, size_of
from ..plan.gpu_expectation import GpuExpectation
from ..plan.plan import Plan, make_plan
from ..plan.plan_text import describe
from ..plan.planned_report import planned_report
from ..plan.sigma_picture import picture_of_plan
from ..progress import Silent
from ..request.base import WanRequest
from ..request.check import RUNNERS, check
from ..request.comparison import check_all
from ..request.field_case import LocalAbilities
from ..request.kinds import class_of
from ..request.machine_price import MachinePrices, price_here
from ..request.media_facts import MediaFacts
from ..request.report import Finding, Report, side_by_side
from ..request.resolved import Resolved
from ..request.seeds import seed_of
from ..request.shots import is_film
from ..video.output import require_writable
from .gpu_estimate import estimate_on_gpus
from .known_rates import KnownRates, known_rates
from .machine_prices import add_machine_prices, machine_prices
from .models_command import rates_file
from .remote_command import add_novita_model, known_prices, novita_model
from .request_flags import (
    add_precision,
    add_request_flags,
    add_residency,
    chosen_image_model,
    chosen_model,
    family_of,
    found_in_loras,
    found_in_media,
    found_in_precision,
    image_family_of,
    read_request,
    seconds_of,
    unfit_loras,
)
from .several_gpus import add_gpus, link_between, refuse_shots
from .subcommands import add_command
from .terminal import print_findings

if TYPE_CHECKING:
    from ..generate.memory_estimate import MemoryEstimate
    from ..generate.phase_cost import PhaseCost
    from ..interpolation.found_interpolators import Interpolators
    from ..loading.wan_model import WanModel

__all__ = ["add_check_commands"]


def add_check_commands(commands: Any, kind: str) -> None:
    """Add `check`, `plan` and `bench`, with the flags of `kind`."""
    text = "say what a runner supports, adjusts or cannot do; loads no weights"
    checked = add_command(commands, "check", _check, text)
    checked.add_argument(
        "--on",
        type=_runners,
        default=["local"],
        metavar="RUNNERS",
        help="local,fal,novita or all; default: local",
    )
    add_novita_model(checked)
    add_gpus(checked)
    add_precision(checked)
    add_machine_prices(checked)
    add_request_flags(checked, kind)

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

    text = "measure this machine and estimate how many seconds a request takes; does not run it"
    measured = add_command(commands, "bench", _bench, text)
    measured.add_argument("--device", help="cpu, cuda, cuda:1, mps; default: the best there is")
    measured.add_argument(
        "--submit-file",
        type=Path,
        metavar="OUT.json",
        help="also measure one block, and write what this card does, without anything that names you",
    )
    add_gpus(measured)
    add_precision(measured)
    add_machine_prices(measured)
    add_request_flags(measured, kind)


def _runners(text: str) -> list[str]:
    names = list(RUNNERS) if text == "all" else text.split(",")
    for name in names:
        if name not in RUNNERS:
            raise argparse.ArgumentTypeError(f"{name!r} is not a runner; use {', '.join(RUNNERS)} or all")
    return names


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write it as 1920x1080")
    return int(found[1]), int(found[2])


def _svg(text: str) -> Path:
    if not text.lower().endswith(".svg"):
        raise argparse.ArgumentTypeError(f"{text!r} is no .svg file; write OUT.svg")
    return Path(text)


def _abilities(options: argparse.Namespace, model: WanModel | None) -> LocalAbilities:
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


def _check(options: argparse.Namespace) -> int:
    """Print the report. Returns 0 when at least one of the requested runners can run the request."""
    request = read_request(options)
    here = "local" in options.on and not request.remote_only
    model = chosen_model(options) if here else None
    family = family_of(options, model) if here else None
    image_family = image_family_of(options, chosen_image_model(options)) if here else None
    abilities, novita = _abilities(options, model), novita_model(options, options.on)
    damaged, media = found_in_media(request)
    reports = check_all(
        request,
        options.on,
        family,
        abilities,
        known_prices(),
        novita,
        media,
        found=[*found_in_loras(request), *damaged],
        found_here=[]
        if family is None
        else [*unfit_loras(request, model, family), *found_in_precision(request, model)],
        image_family=image_family,
    )
    if family is not None and not is_film(request):
        reports = _changed_here(reports, partial(planned_report, family=family))
    if options.precision is not None:
        reports = [one if one.runner == "local" else _without_precision(one, options) for one in reports]
    known = known_rates(request, model) if here else KnownRates(None)
    expected = None
    if family is not None:
        resolved = _local(reports).resolved
        expected = _expected(request, resolved, family, model, abilities, image_family, known.rates)
    if expected is not None:
        reports = _changed_here(reports, partial(replace, expected_s=expected.total_s))
    if prices := machine_prices(options, known.rates):
        reports = _changed_here(reports, partial(_priced, rates=known.rates, prices=prices))
    several = None if family is None else _several(options, request, family, model, reports, known.rates)
    formats, stored_as = _stored_as(model)
    if options.json:
        here_alone: dict[str, Any] = {}
        if formats:
            here_alone["stored_as"] = formats
        if expected is not None:
            here_alone["expected"] = expected.as_dict()
        if known.stored or known.unmeasured:
            here_alone["stored_rates"] = {"measured": known.stored, "unmeasured": known.unmeasured}
        if several is not None:
            here_alone["expected_on_gpus"] = several.as_dict()
        answers = [one.as_dict() | (here_alone if one.runner == "local" else {}) for one in reports]
        answer = answers[0] if len(answers) == 1 else {"reports": answers}
        print(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        text = reports[0].text() if len(reports) == 1 else side_by_side(reports)
        print("\n".join([text, *stored_as, *_times(expected, known, several)]))
    return 0 if any(report.ok for report in reports) else 2


def _several(
    options: argparse.Namespace,
    request: WanRequest,
    family: Family,
    model: WanModel | None,
    reports: Sequence[Report],
    rates: Rates | None,
) -> GpuExpectation | None:
    """Estimate the time on options.gpus. Raises RequestError for what several devices cannot do."""
    resolved = _local(reports).resolved
    if not options.gpus or resolved is None:
        return None
    refuse_shots(request)
    plan = make_plan(resolved, family, seed_of(request) or 0)
    return estimate_on_gpus(len(options.gpus), plan, family, model, rates)


def _without_precision(report: Report, options: argparse.Namespace) -> Report:
    reason = f"{report.runner} computes in its own precision; this is a setting of --on local"
    return report.with_findings([Finding("precision", "impossible", options.precision, None, reason)])


def _stored_as(model: WanModel | None) -> tuple[dict[str, dict[str, int]], list[str]]:
    """Return how the weights are stored, and as a line. Without a model this does not load torch."""
    if model is None:
        return {}, []
    from ..generate.stored_findings import formats_of, formats_text

    return formats_of(model), [formats_text(model)]


def _times(expected: Expectation | None, known: KnownRates, several: GpuExpectation | None) -> Iterator[str]:
    """Yield what is known of the time of a run here, a line each."""
    if expected is not None:
        yield expected.text()
    if told := known.text():
        yield told
    if several is not None:
        yield several.text()


def _local(reports: Sequence[Report]) -> Report:
    return next(report for report in reports if report.runner == "local")


def _changed_here(reports: Sequence[Report], change: Callable[[Report], Report]) -> list[Report]:
    """Return the reports with that of this machine changed."""
    return [change(one) if one.runner == "local" else one for one in reports]


def _priced(report: Report, rates: Rates | None, prices: MachinePrices) -> Report:
    measured_on = None if rates is None else rates.measured_on
    return replace(report, price=price_here(report.expected_s, measured_on, prices))


def _bench(options: argparse.Namespace) -> int:
    from ..device.memory import compute_dtype
    from ..kernels.rates import measure_rates
    from ..networks.card_record import write_card

    request, model = read_request(options), chosen_model(options)
    device = options.gpus[0] if options.gpus else options.device
    family, memory = family_of(options, model), DeviceMemory(device)
    if options.submit_file is not None:
        require_writable(options.submit_file)
    before = read_rates(rates_file())
    link = link_between(options.gpus) if options.gpus else None if before is None else before.link
    rates = measure_rates(memory.device, compute_dtype("auto", memory, "transformer"))
    rates = replace(rates, link=link)
    write_rates(rates_file(), rates)
    if options.submit_file is not None:
        write_card(options.submit_file, rates, memory)
    known = known_rates(request, model)
    image_family = image_family_of(options, chosen_image_model(options))
    abilities = _abilities(options, model)
    report = check(request, family=family, abilities=abilities, image_family=image_family)
    expected = _expected(request, report.resolved, family, model, abilities, image_family, known.rates)
    if expected is None:
        raise RequestError.of(
            "--kind", f"{family.name} cannot run this request", "use `wan-duet check` to see why"
        )
    several = _several(options, request, family, model, [report], known.rates)
    prices = machine_prices(options, rates)
    cost = price_here(expected.total_s, rates.measured_on, prices) if prices else None
    if options.json:
        answer = expected.as_dict()
        if cost is not None:
            answer["price"] = asdict(cost)
        if several is not None:
            answer["expected_on_gpus"] = several.as_dict()
        print(json.dumps(answer, indent=2))
    else:
        price = [] if cost is None else [f"price: {cost.text()}"]
        print("\n".join([*_times(expected, known, several), *price]))
    return 0


def _expected(
    request: WanRequest,
    resolved: Resolved | None,
    family: Family,
    model: WanModel | None,
    abilities: LocalAbilities,
    image_family: Family | None,
    rates: Rates | None,
) -> Expectation | None:
    """Estimate the time. Returns None when this machine was not measured or cannot run the request."""
    size = SIZES.get(family.name) if model is None else size_of(model.experts["high"].config)
    if rates is None or size is None or resolved is None:
        return None
    if is_film(request):
        return expect_all(plans_of_film(request, family, image_family, abilities), size, rates)
    return expect(make_plan(resolved, family, seed_of(request) or 0), size, rates)


def _plan(options: argparse.Namespace) -> int:
    request, model = read_request(options), chosen_model(options)
    family, seed, abilities = family_of(options, model), seed_of(request), _abilities(options, model)
    if is_film(request):
        return _plan_film(options, request, family, abilities)
    whole = replace(abilities, missing_weights={})  # a plan may be looked at before its weights are there
    damaged, measured = found_in_media(request)
    warned = [replace(finding, status="warning") for finding in damaged]  # the same holds for its inputs
    media = MediaFacts(size=options.input_size) if options.input_size else measured
    found = [
        *found_in_loras(request),
        *unfit_loras(request, model, family),
        *found_in_precision(request, model),
        *warned,
    ]
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
        report = check(request, family=family, abilities=abilities, found=found)
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


def _plan_film(
    options: argparse.Namespace, request: WanRequest, family: Family, abilities: LocalAbilities
) -> int:
    """Print the plan of every shot."""
    if options.gpus:
        refuse_shots(request)
    if options.picture is not None:
        raise RequestError.of("--picture", "given for shots", "draw the plan of one shot as its own kind")
    image_family = image_family_of(options, chosen_image_model(options))
    report = check(request, family=family, abilities=abilities, image_family=image_family)
    report.require()
    plans = plans_of_film(request, family, image_family, abilities)
    lines = [
        f"shot {number}: {describe(plan, seconds_per_forward=options.seconds_per_forward)}"
        for number, plan in enumerate(plans, 1)
    ]
    if options.json:
        text, shots = "\n".join(lines), [plan.as_dict() for plan in plans]
        print(json.dumps({"text": text, "shots": shots, "report": report.as_dict()}, indent=2))
    else:
        print("\n".join(lines))
        print_findings(report.told)
    return 0


def _memory_estimate(model: WanModel, plan: Plan) -> MemoryEstimate:
    from ..generate.memory_estimate import estimate_memory
    from ..generate.phase_loras import phase_stand_ins

    networks = plan.networks[plan.start_step :]
    return estimate_memory(phase_stand_ins(model, plan), DeviceMemory(), plan.forward_shape, networks)
