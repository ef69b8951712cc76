"""Plans every shot of a request for one video of several shots."""

from __future__ import annotations

from ..request.base import WanRequest
from ..request.check import check
from ..request.check_film import sized
from ..request.field_case import LocalAbilities
from ..request.media_facts import NOTHING_KNOWN, MediaFacts
from ..request.seeds import seed_of
from ..request.shots import shots_of
from .families import Family
from .plan import Plan, make_plan

__all__ = ["plans_of_film"]


def plans_of_film(
    request: WanRequest, family: Family, image_family: Family | None, abilities: LocalAbilities
) -> list[Plan]:
    """Return the plan of each shot. A missing seed counts as 0. Raises RequestError when one cannot run."""
    tasks = family.tasks | (image_family or family).tasks
    plans: list[Plan] = []
    for shot in shots_of(request, tasks, family.default_fps):
        size = (plans[0].width, plans[0].height) if plans else None
        model = image_family or family if shot.from_image else family
        media = NOTHING_KNOWN if size is None else MediaFacts(size=size)
        resolved = check(sized(shot.request, size), family=model, abilities=abilities, media=media).require()
        plans.append(make_plan(resolved, model, seed_of(shot.request) or 0))
    return plans
