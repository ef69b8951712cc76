"""Draws the noise levels of a run as an SVG picture: one point per step, coloured by its expert."""

from __future__ import annotations

from collections.abc import Sequence

from ..request import LocalAbilities, WanRequest, check
from ..request.shots import is_film, shots_of
from .families import FAMILIES, Family
from .plan import Plan, make_plan
from .sigmas import stages_of
from .svg import EXPERT_COLOURS, svg, svg_text
from .timeline_picture import timeline_picture

__all__ = ["picture_of_plan", "picture_of_request", "sigma_picture"]

_WIDTH, _HEIGHT = 420, 220
_LEFT, _TOP, _RIGHT, _BOTTOM = 36, 26, 408, 190  # of the plot
_LEGEND = {"high": "high-noise", "low": "low-noise"}
_STYLE = ".wan-duet-sigmas .axis{stroke:currentColor;stroke-opacity:.35;fill:none}"

_Stage = tuple[str, range]  # (expert, its steps)


def picture_of_plan(plan: Plan) -> str:
    """Draw all steps of a plan, the skipped ones too. Returns SVG."""
    return sigma_picture(plan.sigmas, plan.experts, start=plan.start_step, boundary=plan.boundary)


def picture_of_request(request: WanRequest, family: Family | None, abilities: LocalAbilities) -> str | None:
    """Draw the steps of a local run; of several shots the line of shots. Returns SVG.

    Returns None if the request cannot run here, or if its size depends on an input that was not measured.
    family: of the model. None uses the family that the task was made for.
    """
    if is_film(request):
        return timeline_picture(shots_of(request))
    made_for = (known for known in FAMILIES.values() if request.task in known.tasks)
    family = family or next(made_for, None)
    if family is None:
        return None
    resolved = check(request, family=family, abilities=abilities).resolved
    if resolved is None or resolved.size is None:
        return None
    return picture_of_plan(make_plan(resolved, family, seed=0))  # the seed changes no noise level


def sigma_picture(
    sigmas: Sequence[float], experts: Sequence[str], *, start: int = 0, boundary: float | None = None
) -> str:
    """Draw the noise levels. Returns an SVG document.

    sigmas:   n + 1 falling noise levels, 0 to 1.
    experts:  "high" or "low" for each of the n steps.
    start:    the first step that runs. Earlier ones are drawn faintly.
    boundary: the noise level of the switch, 0 to 1. None with one expert.
    """
    stages = list(stages_of(experts, start))
    parts = [
        *_axes(len(experts)),
        *([] if boundary is None else _boundary(boundary)),
        *_curve("", range(start), sigmas),
        *(part for stage in stages for part in _curve(*stage, sigmas)),
        *_switches(stages, len(experts)),
        *_legend(stages, start),
    ]
    return svg("wan-duet-sigmas", (_WIDTH, _HEIGHT), _summary(stages, start), parts, _STYLE)


def _summary(stages: Sequence[_Stage], start: int) -> str:
    counts = [f"{len(steps)} {_LEGEND[expert]} steps" for expert, steps in stages]
    return ", ".join([f"{start} steps skipped", *counts] if start else counts) or "no steps"


def _axes(steps: int) -> list[str]:
    middle = (_LEFT + _RIGHT) // 2
    return [
        f'<path class="axis" d="M{_LEFT} {_TOP}V{_BOTTOM}H{_RIGHT}"/>',
        *(svg_text(_LEFT - 6, _y(level) + 4, f"{level:g}", "end") for level in (1.0, 0.5, 0.0)),
        svg_text(6, _TOP - 12, "sigma", "start"),
        svg_text(_LEFT, _BOTTOM + 16, "0", "middle"),
        svg_text(_RIGHT, _BOTTOM + 16, str(steps), "end"),
        svg_text(middle, _BOTTOM + 16, "step", "middle"),
    ]


def _boundary(level: float) -> list[str]:
    y = _y(level)
    return [
        f'<path class="axis" stroke-dasharray="2 3" d="M{_LEFT} {y}H{_RIGHT}"/>',
        svg_text(_RIGHT, y - 4, f"boundary {level:g}", "end"),
    ]


def _curve(expert: str, steps: range, sigmas: Sequence[float]) -> list[str]:
    """Draw a line through the noise levels of these steps, with a point at the start of each.

    expert: "" draws the line faintly and without points.
    """
    if not steps:
        return []
    points = [(_x(step, len(sigmas) - 1), _y(sigmas[step])) for step in range(steps.start, steps.stop + 1)]
    line = " ".join(f"{x},{y}" for x, y in points)
    paint = f'stroke="{EXPERT_COLOURS[expert]}"' if expert else 'stroke="currentColor" stroke-opacity=".3"'
    drawn = [f'<polyline fill="none" stroke-width="2" {paint} points="{line}"/>']
    if expert:
        drawn += [
            f'<circle cx="{x}" cy="{y}" r="3" fill="{EXPERT_COLOURS[expert]}"/>' for x, y in points[:-1]
        ]
    return drawn


def _switches(stages: Sequence[_Stage], count: int) -> list[str]:
    places = [_x(steps.start, count) for _, steps in stages[1:]]
    return [f'<path class="axis" stroke-dasharray="5 3" d="M{x} {_TOP}V{_BOTTOM}"/>' for x in places]


def _legend(stages: Sequence[_Stage], start: int) -> list[str]:
    drawn, x = [], 70
    for expert, steps in stages:
        drawn.append(f'<rect x="{x}" y="6" width="9" height="9" fill="{EXPERT_COLOURS[expert]}"/>')
        drawn.append(svg_text(x + 13, 15, f"{_LEGEND[expert]}: {_steps(len(steps))}", "start"))
        x += 130
    return [*drawn, svg_text(x, 15, f"skipped: {_steps(start)}", "start")] if start else drawn


def _steps(count: int) -> str:
    return f"{count} step" if count == 1 else f"{count} steps"


def _x(step: int, steps: int) -> float:
    return round(_LEFT + (_RIGHT - _LEFT) * step / max(steps, 1), 1)


def _y(level: float) -> float:
    return round(_BOTTOM - (_BOTTOM - _TOP) * level, 1)
