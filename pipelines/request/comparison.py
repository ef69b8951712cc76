"""Checks a request for several runners, to compare them."""

from __future__ import annotations

from collections.abc import Sequence

from .base import WanRequest
from .check import RUNNERS, check
from .field_case import LocalAbilities
from .media_facts import NOTHING_KNOWN, MediaFacts
from .model_facts import ModelFacts
from .novita_words import NovitaModel
from .prices import PRICES, PriceTable
from .report import Finding, Report

__all__ = ["check_all"]


def check_all(
    request: WanRequest,
    runners: Sequence[str] = RUNNERS,
    family: ModelFacts | None = None,
    abilities: LocalAbilities | None = None,
    prices: PriceTable = PRICES,
    novita_model: NovitaModel = "Wan 2.1",
    media: MediaFacts = NOTHING_KNOWN,
    found: Sequence[Finding] = (),
    found_here: Sequence[Finding] = (),
    found_elsewhere: Sequence[Finding] = (),
    image_family: ModelFacts | None = None,
) -> list[Report]:
    """Return the reports of several runners, for a comparison.

    found_here, found_elsewhere: as `found`, for this machine and for the providers alone.
    """
    facts = family, abilities, prices, novita_model, media
    return [
        check(
            request,
            runner,
            *facts,
            (*found, *(found_here if runner == "local" else found_elsewhere)),
            image_family,
        )
        for runner in runners
    ]
