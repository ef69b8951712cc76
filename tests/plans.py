"""A plan of a request, checked as this machine would."""

from __future__ import annotations

from typing import Any

from wan_duet.pipelines.plan import Family, Plan, make_plan
from wan_duet.pipelines.request import MediaFacts, WanRequest, check

__all__ = ["plan_of"]


def plan_of(
    request: WanRequest, family: Family, seed: int = 0, size: tuple[int, int] | None = None, **options: Any
) -> Plan:
    """size: of the input whose shape is kept. options: of `make_plan`."""
    return make_plan(
        check(request, family=family, media=MediaFacts(size=size)).require(), family, seed, **options
    )
