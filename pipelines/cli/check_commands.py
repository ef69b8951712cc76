"""`wan-duet check` and `bench`: what a run would do and take, without running it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..device.memory import DeviceMemory
from ..errors import RequestError
from ..plan.expectation import Expectation, Rates, expect, expect_all, read_rates, write_rates
from ..plan.film_plan import plans_of_film
from ..plan.flops import SIZES, size_of
from ..plan.gpu_expectation import GpuExpectation
from ..plan.plan import make_plan
from ..plan.planned_report import planned_report
from ..request.check import RUNNERS, check
from ..request.comparison import check_all
from ..request.machine_price import MachinePrices, price_here
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
from .request_findings import (
    RequestHere,
    abilities_of,
    found_in_loras,
    found_in_media,
    found_with_model,
    request_here,
)
from .request_flags import add_precision, add_request_flags, read_request
from .several_gpus import add_gpus, link_between, refuse_shots
from .subcommands import add_command

if TYPE_CHECKING:
    from ..loading.wan_model import WanModel

__all__ = ["add_bench_command", "add_check_command"]


def add_check_command(commands: Any, kind: str) -> None:
    """Add `check`, with the flags of `kind`."""
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


def add_bench_command(commands: Any, kind: str) -> None:
    """Add `bench`, with the flags of `kind`."""
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


def _check(options: argparse.Namespace) -> int:
    """Print the report. Returns 0 when at least one of the requested runners can run the request."""
    request = read_request(options)
    here = request_here(options, request) if "local" in options.on and not request.remote_only else None
    novita = novita_model(options, options.on)
    damaged, media = found_in_media(request)
    reports = check_all(
        request,
        options.on,
        None if here is None else here.family,
        abilities_of(options, None) if here is None else here.abilities,
        known_prices(),
        novita,
        media,
        found=[*found_in_loras(request), *damaged],
        found_here=[] if here is None else found_with_model(here),
        image_family=None if here is None else here.image_family,
    )
    if here is not None and not is_film(request):
        reports = _changed_here(reports, partial(planned_report, family=here.family))
    if options.precision is not None:
        reports = [one if one.runner == "local" else _without_precision(one, options) for one in reports]
    known = KnownRates(None) if here is None else known_rates(request, here.model)
    expected = several = None
    if here is not None:
        resolved = next(report for report in reports if report.runner == "local").resolved
        expected = _expected(here, resolved, known.rates)
        several = _several(options, here, resolved, known.rates)
    if expected is not None:
        reports = _changed_here(reports, partial(replace, expected_s=expected.total_s))
    if prices := machine_prices(options, known.rates):
        reports = _changed_here(reports, partial(_priced, rates=known.rates, prices=prices))
    formats, stored_as = _stored_as(None if here is None else here.model)
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
    options: argparse.Namespace, here: RequestHere, resolved: Resolved | None, rates: Rates | None
) -> GpuExpectation | None:
    """Estimate the time on options.gpus. Raises RequestError for what several devices cannot do."""
    if not options.gpus or resolved is None:
        return None
    refuse_shots(here.request)
    plan = make_plan(resolved, here.family, seed_of(here.request) or 0)
    return estimate_on_gpus(len(options.gpus), plan, here.family, here.model, rates)


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

    here = request_here(options, read_request(options))
    memory = DeviceMemory(options.gpus[0] if options.gpus else options.device)
    if options.submit_file is not None:
        require_writable(options.submit_file)
    before = read_rates(rates_file())
    link = link_between(options.gpus) if options.gpus else None if before is None else before.link
    rates = measure_rates(memory.device, compute_dtype("auto", memory, "transformer"))
    rates = replace(rates, link=link)
    write_rates(rates_file(), rates)
    if options.submit_file is not None:
        write_card(options.submit_file, rates, memory)
    known, resolved = (
        known_rates(here.request, here.model),
        check(
            here.request, family=here.family, abilities=here.abilities, image_family=here.image_family
        ).resolved,
    )
    expected = _expected(here, resolved, known.rates)
    if expected is None:
        raise RequestError.of(
            "--kind", f"{here.family.name} cannot run this request", "use `wan-duet check` to see why"
        )
    several = _several(options, here, resolved, known.rates)
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


def _expected(here: RequestHere, resolved: Resolved | None, rates: Rates | None) -> Expectation | None:
    """Estimate the time. Returns None when this machine was not measured or cannot run the request."""
    model, family = here.model, here.family
    size = SIZES.get(family.name) if model is None else size_of(model.experts["high"].config)
    if rates is None or size is None or resolved is None:
        return None
    if is_film(here.request):
        plans = plans_of_film(here.request, family, here.image_family, here.abilities)
        return expect_all(plans, size, rates)
    return expect(make_plan(resolved, family, seed_of(here.request) or 0), size, rates)
