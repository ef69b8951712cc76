"""Converts a request into an order: what to buy for it, where, and at which price."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..errors import RequestError
from ..request import Finding, MediaFacts, NovitaModel, WanRequest, check, seed_for_run
from ..request.media_facts import NOTHING_KNOWN
from ..request.prices import PRICES, PriceTable
from ..request.shots import is_film
from ..video.clip_length import known_lengths
from ..video.local_file import FindFile, any_file
from .fal import Fal
from .job_record import Order
from .payload import Prepared, prepare, sendable
from .provider import Payload, Provider
from .purchase import Prepare
from .stored_form import stored_form

__all__ = ["order_for", "uploading"]


def order_for(
    request: WanRequest,
    runner: str,
    out: Path,
    *,
    media: Mapping[str, Path] = MappingProxyType({}),
    prices: PriceTable = PRICES,
    find: FindFile = any_file,
    check_stop: Callable[[], None] = lambda: None,
    novita_model: NovitaModel = "Wan 2.1",
    found: Sequence[Finding] = (),
) -> tuple[Order, Prepared]:
    """The order, and the files that it takes to send it. Spends and sends nothing.

    runner: "fal" or "novita".
    media:  {field or entry: the file written for the medium that was connected to it}.
    find:   the file that a name in a field means; refuses files that are not meant to leave.
    check_stop: raises when the user has lost patience with large files.
    novita_model: the model to use at Novita.
    found:  what was found in files before, as for `check`.

    An unset seed becomes a random one here, which identifies a job whose submit was not answered.
    Raises RequestError with everything that the runner cannot do.
    """
    if is_film(request):
        fix = "order each shot by itself, as `film_order` does"
        raise RequestError.of("request", "several shots, which are several orders", fix)
    if "seed" in type(request).model_fields:
        request = request.model_copy(update={"seed": seed_for_run(request, runner)})
    facts = MediaFacts(lengths=known_lengths(request, media, find)) if request.remote_only else NOTHING_KNOWN
    report = check(request, runner, prices=prices, novita_model=novita_model, media=facts, found=found)
    sent = report.require().request
    prepared = prepare(sent, media, find, check_stop)
    about: dict[str, Any] = {
        "kind": request.kind,
        "request": dict(prepared.payload) if sent is request else request.payload(),
        "adjustments": [
            {"field": finding.field, "asked": finding.asked, "used": finding.used, "reason": finding.reason}
            for finding in report.adjustments
        ],
        "findings": stored_form([finding.to_share() for finding in report.told]),
    }
    return Order(runner, prepared.endpoint, prepared.payload, out, report.price, about), prepared


def uploading(prepared: Prepared, account: Provider) -> Prepare:
    """What a job calls before it is submitted: puts the files where the provider can read them."""

    async def send() -> Payload:
        # An order for Novita has no files: `prepare` refuses them.
        return await sendable(prepared, account.upload) if isinstance(account, Fal) else prepared.payload

    return send
