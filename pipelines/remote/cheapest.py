"""Chooses the provider with the lowest known price among those that do all that a request demands."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ..errors import KeyProblemError, RequestError
from ..request import MediaFacts, NovitaModel, WanRequest, check
from ..request.media_facts import NOTHING_KNOWN
from ..request.prices import PriceTable
from ..request.report import Report
from ..video.clip_length import known_lengths
from .keys import PROVIDERS, find_key
from .spending_limits import SpendingLimits

__all__ = ["cheapest"]


def cheapest(
    request: WanRequest,
    folder: Path | None,
    prices: PriceTable,
    limits: SpendingLimits,
    novita_model: NovitaModel,
    environ: Mapping[str, str] = os.environ,
) -> Report:
    """Return the report of the cheapest provider, compared by the highest amount that each may ask.

    A provider counts if the user has a key for it, if it refuses nothing of the request, and if its price is
    known and within the limit of a run. folder: of the keys.

    Raises RequestError on `--on` that says for each provider why it does not count.
    """
    facts = MediaFacts(lengths=known_lengths(request)) if request.remote_only else NOTHING_KNOWN
    reports = [
        check(request, provider, prices=prices, novita_model=novita_model, media=facts)
        for provider in PROVIDERS
    ]
    against = {report.runner: _against(report, folder, limits, environ) for report in reports}
    able = [report for report in reports if against[report.runner] is None]
    if not able:
        why = "; ".join(f"{provider}: {reason}" for provider, reason in against.items())
        raise RequestError.of("--on", f"cheapest finds no provider ({why})", "name one with --on")
    return min(able, key=lambda report: report.price.high or 0.0)


def _against(
    report: Report, folder: Path | None, limits: SpendingLimits, environ: Mapping[str, str]
) -> str | None:
    """Return why this provider does not count; None if it does."""
    if not report.ok:
        return "it refuses " + ", ".join(problem.field for problem in report.problems)
    try:
        find_key(report.runner, folder, environ)
    except KeyProblemError as error:
        return str(error)
    if report.price.high is None:
        return "its price is unknown"
    if limits.per_run_usd is not None and report.price.high > limits.per_run_usd:
        return f"${report.price.high:.2f} is above your limit of ${limits.per_run_usd:.2f} a run"
    return None
