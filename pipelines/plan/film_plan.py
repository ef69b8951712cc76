"""Plans every shot of a request for one video of several shots."""

from __future__ import annotations

from functools import partial

from ..request.base import WanRequest
from ..request.check import check
from ..request.check_film import reports_of_shots
from ..request.field_case import LocalAbilities
from ..request.seeds import seed_of
from .families import Family
from .plan import Plan, make_plan

__all__ = ["plans_of_film"]


def plans_of_film(
    request: WanRequest, family: Family, image_family: Family | None, abilities: LocalAbilities
) -> list[Plan]:
    """Return the plan of each shot. A missing seed counts as 0. Raises RequestError when one cannot run."""
    families = family, image_family or family
    shots, reports = reports_of_shots(request, "local", families, partial(check, abilities=abilities))
    return [
        make_plan(report.require(), families[shot.from_image], seed_of(shot.request) or 0)
        for shot, report in zip(shots, reports, strict=True)
    ]
