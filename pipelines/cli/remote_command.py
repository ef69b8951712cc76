"""`wan-duet generate --on fal`: run a request at a provider, within the spending limits of the user."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RequestError
from ..request.check import RUNNERS
from ..request.novita_words import NOVITA_MODELS, NovitaModel
from ..request.shots import is_film
from ..video.output import BOUGHT_SUFFIXES, require_known_suffix, require_suffix
from .request_findings import found_in_loras
from .subcommands import add_folder, folder_of
from .terminal import TerminalProgress, print_findings

if TYPE_CHECKING:
    from ..remote.job_record import Job, Order
    from ..remote.payload import Prepared
    from ..remote.settings import Addresses
    from ..remote.spending import Spending
    from ..request.base import WanRequest
    from ..request.prices import PriceTable

__all__ = [
    "CHEAPEST",
    "add_novita_model",
    "add_remote_flags",
    "generate_remotely",
    "known_prices",
    "novita_model",
    "require_local_flags",
]

_LOCAL = (
    *("model", "precision", "device", "residency", "attention", "kernels", "compile"),
    *("from_receipt", "allow_partial_loras", "prompt_expander", "safety_checker"),
    *("as_requested", "pose_video", "max_seconds", "gpus"),
)
CHEAPEST = "cheapest"  # of the providers
_REMOTE = ("no_reuse", "resubmit", "provider_url", "allow_loopback", "folder", "novita_model")


def add_remote_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that only runs at a provider use."""
    flags = parser.add_argument_group("at a provider")
    add_novita_model(flags)
    flags.add_argument(
        "--no-reuse",
        action="store_true",
        help="generate and pay again, even if the same request was already paid for",
    )
    flags.add_argument(
        "--resubmit",
        action="store_true",
        help="submit again after the response to a submit was lost; may cost twice",
    )
    flags.add_argument(
        "--provider-url", metavar="URL", help="another address of the provider; the key is sent to it"
    )
    flags.add_argument(
        "--allow-loopback", action="store_true", help="allow plain http to this machine for --provider-url"
    )
    add_folder(flags)


def add_novita_model(parser: Any) -> None:
    """Add --novita-model to a parser or a group of it."""
    choices, first = list(NOVITA_MODELS), NOVITA_MODELS[0]
    text = f"the Novita model to use; default: {first}"
    parser.add_argument("--novita-model", choices=choices, metavar="MODEL", help=text)


def novita_model(options: argparse.Namespace, runners: Sequence[str]) -> NovitaModel:
    """Return the model of --novita-model. Raises RequestError if the flag is set without Novita."""
    model: NovitaModel | None = options.novita_model
    if model is not None and "novita" not in runners:
        fix = "leave it out, or give --on novita"
        raise RequestError.of("--novita-model", f"given with --on {','.join(runners)}", fix)
    return model or NOVITA_MODELS[0]


def require_local_flags(options: argparse.Namespace) -> None:
    """Raise RequestError for flags that a run on this machine would ignore."""
    _refuse(options, _REMOTE, "leave it out, or give --on fal or --on novita")


def known_prices() -> PriceTable:
    """Return the prices of providers that we, the user or the user's jobs know."""
    from ..download.folders import remote_folder
    from ..remote.experience import known_spending

    return known_spending(remote_folder()).prices


def generate_remotely(request: WanRequest, options: argparse.Namespace) -> int:
    """Buy `request` at options.on, or at the cheapest provider, and print the path of the file.

    Replaces no file: if options.output exists, the new file is beside it.
    """
    from ..remote.cheapest import cheapest
    from ..remote.experience import known_spending
    from ..remote.order import order_for
    from .remote_terminal import buy_and_follow, open_account, print_job

    _refuse(options, _LOCAL, "leave it out: the provider has its own")
    require_known_suffix(options.output, BOUGHT_SUFFIXES)
    folder = folder_of(options)
    spending = known_spending(folder)
    model = novita_model(options, RUNNERS if options.on == CHEAPEST else [options.on])
    if options.on == CHEAPEST:
        chosen = cheapest(request, folder, spending.prices, spending.limits, model)
        options.on = chosen.runner
        print(f"cheapest: {chosen.runner}", file=sys.stderr)
    if is_film(request):
        return _generate_film(request, options, folder, spending, model)
    order, prepared = order_for(
        request,
        options.on,
        options.output,
        prices=spending.prices,
        novita_model=model,
        found=found_in_loras(request),
    )
    print_findings(order.findings)
    print(f"price: {order.price.text()}", file=sys.stderr)
    with open_account(options.on, folder, _addresses(options, folder)) as (thread, account):
        thread.resume([account])  # what a former command left open comes home, if there is time
        job = buy_and_follow(thread, account, order, prepared, spending.limits, options)
    about = {"video": job.file_path, "seed": job.seed, "prompt": job.prompt}
    print_job(job, about, as_json=options.json)
    return 0


def _generate_film(
    request: WanRequest, options: argparse.Namespace, folder: Path, spending: Spending, model: NovitaModel
) -> int:
    """Buy the shots of `request` one after another, and write one video."""
    from ..remote.film_order import FILMS, OrderTerms, film_order
    from ..remote.film_purchase import buy_film
    from .remote_terminal import buy_and_follow, open_account

    require_suffix(options.output, "mp4")
    terms = OrderTerms(options.on, spending.prices, model, found=found_in_loras)
    film = film_order(request, terms, folder / FILMS, {})
    print_findings(film.report.told)
    print(f"price: {film.report.price.text()}", file=sys.stderr)
    with open_account(options.on, folder, _addresses(options, folder)) as (thread, account):
        thread.resume([account])

        def buy(number: int, order: Order, prepared: Prepared) -> Job:
            print(f"shot {number + 1} of {len(film.shots)}: {order.price.text()}", file=sys.stderr)
            return buy_and_follow(thread, account, order, prepared, spending.limits, options)

        bought = buy_film(
            film,
            options.output,
            buy,
            spending.limits,
            TerminalProgress(sys.stderr),
            reuse=not options.no_reuse,
        )
    answer = {"video": str(bought.path), "receipt": bought.receipt}
    print(json.dumps(answer, indent=2, ensure_ascii=False) if options.json else bought.path)
    return 0


def _refuse(options: argparse.Namespace, names: tuple[str, ...], fix: str) -> None:
    given = [name for name in names if getattr(options, name)]
    if given:
        flags = ", ".join("--" + name.replace("_", "-") for name in given)
        raise RequestError.of(flags, f"given with --on {options.on}", fix)


def _addresses(options: argparse.Namespace, folder: Path) -> Addresses:
    from ..remote.settings import read_addresses

    addresses = read_addresses(folder)
    if options.provider_url is None:
        return addresses
    return addresses.at(options.on, options.provider_url, allow_loopback=options.allow_loopback)
