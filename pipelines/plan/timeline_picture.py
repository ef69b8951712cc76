"""Draws the shots of a video as a line: how long each is, and how it joins the one before."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from ..request.shots import FilmShot
from .svg import EXPERT_COLOURS, svg, svg_text

__all__ = ["timeline_picture"]

_WIDTH, _LEFT, _ROW = 420, 8, 22
_COLOURS = tuple(EXPERT_COLOURS.values())  # in turn
_LONGEST_LABEL = 60


def timeline_picture(shots: Sequence[FilmShot]) -> str:
    """Return SVG: a bar with a part for each shot, and a line of text for each below it."""
    frames = [shot.frames for shot in shots]
    fps = dict(shots[0].request)["frames_per_second"]
    scale = (_WIDTH - 2 * _LEFT) / sum(frames)
    begins = [0, *accumulate(frames)]
    height = 3 * _ROW + _ROW * len(shots)
    total = f"{sum(frames)} frames, {sum(frames) / fps:.1f} s at {fps} a second"
    parts = [
        *(
            f'<rect x="{_LEFT + scale * begin:.1f}" y="6" width="{scale * count:.1f}" height="{_ROW}" '
            f'fill="{_COLOURS[shot.number % 2]}"/>'
            for shot, begin, count in zip(shots, begins, frames, strict=False)
        ),
        svg_text(_LEFT, 2 * _ROW, total),
        *(
            svg_text(_LEFT, (3 + shot.number) * _ROW, _label(shot, begin / fps))
            for shot, begin in zip(shots, begins, strict=False)
        ),
    ]
    return svg("wan-duet-timeline", (_WIDTH, height), f"{len(shots)} shots, {total}", parts)


def _label(shot: FilmShot, begin_s: float) -> str:
    prompt = str(dict(shot.request)["prompt"])
    text = f"{begin_s:.1f} s, {shot.frames} frames, {shot.join.text()}: {prompt}"
    return text if len(text) <= _LONGEST_LABEL else text[: _LONGEST_LABEL - 3] + "..."
