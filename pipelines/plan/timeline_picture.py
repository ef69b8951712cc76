"""Draws the shots of a video as a line: how long each is, and how it joins the one before."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import accumulate

from ..request.shots import FilmShot

__all__ = ["timeline_picture"]

_WIDTH, _LEFT, _ROW = 420, 8, 22
_COLOURS = ("#3f8fe0", "#e07a3f")
_LONGEST_LABEL = 60

# Inside ComfyUI's page the picture uses its colours, elsewhere those of the system.
_STYLE = (
    ".wan-duet-timeline{color:var(--input-text,#222)}"
    "@media(prefers-color-scheme:dark){.wan-duet-timeline{color:var(--input-text,#ddd)}}"
    ".wan-duet-timeline text{font:11px sans-serif;fill:currentColor}"
)


def timeline_picture(shots: Sequence[FilmShot]) -> str:
    """Return SVG: a bar with a part for each shot, and a line of text for each below it."""
    frames = [shot.frames for shot in shots]
    fps = dict(shots[0].request)["frames_per_second"]
    scale = (_WIDTH - 2 * _LEFT) / sum(frames)
    begins = [0, *accumulate(frames)]
    height = 3 * _ROW + _ROW * len(shots)
    total = f"{sum(frames)} frames, {sum(frames) / fps:.1f} s at {fps} a second"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="wan-duet-timeline" viewBox="0 0 {_WIDTH} {height}" '
        f'role="img" aria-label="{len(shots)} shots, {total}">',
        f"<style>{_STYLE}</style>",
        *(
            f'<rect x="{_LEFT + scale * begin:.1f}" y="6" width="{scale * count:.1f}" height="{_ROW}" '
            f'fill="{_COLOURS[shot.number % 2]}"/>'
            for shot, begin, count in zip(shots, begins, frames, strict=False)
        ),
        _text(2 * _ROW, total),
        *(
            _text((3 + shot.number) * _ROW, _label(shot, begin / fps))
            for shot, begin in zip(shots, begins, strict=False)
        ),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _label(shot: FilmShot, begin_s: float) -> str:
    prompt = str(dict(shot.request)["prompt"])
    text = f"{begin_s:.1f} s, {shot.frames} frames, {shot.join.text()}: {prompt}"
    return text if len(text) <= _LONGEST_LABEL else text[: _LONGEST_LABEL - 3] + "..."


def _text(y: float, text: str) -> str:
    return f'<text x="{_LEFT}" y="{y:g}">{escape(text)}</text>'
