"""Checks a request for one video of several shots: every shot for itself, and what they cost together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from types import MappingProxyType

from .base import WanRequest
from .field_rows import LOCAL
from .media_facts import NOTHING_KNOWN, MediaFacts
from .model_facts import ModelFacts
from .overlap_latents import overlap_findings
from .parse import parse
from .prices import Price
from .report import Finding, Report
from .resolved import Resolved
from .shots import FilmShot, shots_of

__all__ = ["CheckShot", "check_film", "each_once", "of_all", "reports_of_shots", "sized"]

_SIZE = ("resolution", "aspect_ratio")
_GIVEN_HERE = (*_SIZE, "width", "height")  # to later shots: the size of the first one

_ONE_IMAGE = "a provider takes one image to begin with; use continue, or run it here"
_NO_FILES = (
    "Novita accepts no image files, so a shot cannot begin with a frame of the one before; use cut or "
    "dissolve, or run it at fal or here"
)
_WHY_NOT_JOINED = {
    ("fal", "overlap"): _ONE_IMAGE,
    ("novita", "overlap"): _NO_FILES,
    ("novita", "continue"): _NO_FILES,
}

CheckShot = Callable[..., Report]  # (request, runner, family, media=facts about its inputs)


def check_film(
    request: WanRequest,
    runner: str,
    families: tuple[ModelFacts | None, ModelFacts | None],
    check_shot: CheckShot,
    found: Sequence[Finding] = (),
) -> Report:
    """Return one report for all shots. Fields of a shot are named with it: shots[1].prompt.

    families:   the models of shots from text, and of shots from an image; None for the same one.
    check_shot: checks one shot, as `check` does.

    Raises RequestError when the shots cannot be read.
    """
    shots, reports = reports_of_shots(request, runner, families, check_shot)
    on_overlap = overlap_findings(request, shots, runner, families[1] or families[0])
    findings = [*each_once(of_all(shots, reports)), *on_overlap, *found]
    ok = not any(finding.status == "impossible" for finding in findings)
    first = reports[0].resolved
    return Report(
        runner=runner,
        kind=request.kind,
        model=reports[0].model,
        findings=tuple(findings),
        price=_together([report.price for report in reports]),
        resolved=None
        if not ok or first is None
        else Resolved(request, MappingProxyType(dict(first.values)), first.model, first.size),
        expected_s=_sum([report.expected_s for report in reports]),
    )


def reports_of_shots(
    request: WanRequest,
    runner: str,
    families: tuple[ModelFacts | None, ModelFacts | None],
    check_shot: CheckShot,
) -> tuple[list[FilmShot], list[Report]]:
    """Return the shots, and the report of each. Takes and raises what `check_film` does."""
    family = families[0]
    from_image = families[1] or family
    tasks = frozenset[str]().union(*(one.tasks for one in (family, from_image) if one is not None))
    shots = shots_of(request, tasks, 16 if family is None else family.default_fps)
    reports: list[Report] = []
    size: tuple[int, int] | None = None
    for shot in shots:
        wanted = from_image if shot.from_image else family
        here = shot.request if runner != "local" else sized(shot.request, size)
        facts = NOTHING_KNOWN if size is None else MediaFacts(size=size)
        reports.append(check_shot(here, runner, wanted, media=facts))
        if size is None and reports[0].resolved is not None and reports[0].resolved.size is not None:
            size = reports[0].resolved.size[:2]
    return shots, reports


def sized(request: WanRequest, size: tuple[int, int] | None) -> WanRequest:
    """Return the request of a shot for this machine, in the size that the first shot has."""
    if size is None:
        return request
    values = {name: value for name, value in request.document().items() if name not in _SIZE}
    local = {**values.get(LOCAL, {}), "width": size[0], "height": size[1]}
    return parse(request.kind, {**values, LOCAL: local})


def of_all(shots: Sequence[FilmShot], reports: Sequence[Report]) -> Iterator[Finding]:
    """Yield the findings about all shots. Those about the size of a later shot here are left out."""
    for shot, report in zip(shots, reports, strict=True):
        why = _WHY_NOT_JOINED.get((report.runner, shot.join.kind))
        for finding in report.findings:
            name = finding.field.removeprefix(f"{LOCAL}.")
            given_here = shot.number and report.runner == "local" and name in _GIVEN_HERE
            if not given_here and not (why and shot.join.given and name == "image_url"):
                yield shot.finding(finding)
        if shot.asked_s is not None:
            yield from _length(shot)
        if why is not None:
            yield Finding(f"shots[{shot.number}].join", "impossible", shot.join.text(), None, why)


def each_once(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings without those that are there already. What was asked may be a list."""
    return list({repr(finding): finding for finding in findings}.values())


def _length(shot: FilmShot) -> Iterator[Finding]:
    values = dict(shot.request)
    frames, fps = values["num_frames"], values["frames_per_second"]
    if frames != shot.asked_s * fps:
        field = f"shots[{shot.number}].seconds"
        reason = f"{frames} frames at {fps} a second: the model makes 4 n + 1 frames"
        yield Finding(field, "adjusted", shot.asked_s, round(frames / fps, 3), reason)


def _together(prices: Sequence[Price]) -> Price:
    usd, low, high = (_sum([getattr(price, end) for price in prices]) for end in ("usd", "low", "high"))
    shots = "1 shot" if len(prices) == 1 else f"{len(prices)} shots"
    assumption = f"{shots}; {prices[0].assumption}"
    return Price(usd, low, high, assumption, prices[0].source, prices[0].as_of)


def _sum(amounts: Sequence[float | None]) -> float | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if len(known) == len(amounts) else None
