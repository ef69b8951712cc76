"""Draws how much of each block the LoRAs change: a strip of cells per file and expert, as SVG."""

from __future__ import annotations

from collections.abc import Sequence

from ...plan.svg import EXPERT_COLOURS, svg, svg_text
from .coverage import LoraReport

__all__ = ["coverage_picture"]

_WIDTH, _ROW = 420, 34  # of the picture, and the height of a strip with its label
_FAINTEST = 0.08  # of a block that is not changed, so that it stays visible
_LONGEST_NAME = 40


def coverage_picture(reports: Sequence[LoraReport]) -> str:
    """Return an SVG document; the fuller a cell, the more weight matrices of that block are changed."""
    shown = [report for report in reports if report.coverage.blocks]
    height = max(_ROW * len(shown), 1)
    parts = (part for row, report in enumerate(shown) for part in _strip(report, row * _ROW))
    return svg("wan-duet-coverage", (_WIDTH, height), "weights that LoRAs change, per block", parts)


def _strip(report: LoraReport, top: int) -> list[str]:
    blocks, name = report.coverage.blocks, report.file.name
    short = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 3]}..."
    label = f"{short} · {report.expert} at {report.strength:g}"
    width = _WIDTH / len(blocks)
    drawn = [svg_text(0, top + 11, label)]
    for number, share in enumerate(blocks):
        opacity = _FAINTEST + (1 - _FAINTEST) * share
        drawn.append(
            f'<rect x="{number * width:.1f}" y="{top + 16}" width="{width - 1:.1f}" height="12" '
            f'fill="{EXPERT_COLOURS[report.expert]}" fill-opacity="{opacity:.2f}">'
            f"<title>block {number}: {share:.0%} of its weight matrices</title></rect>"
        )
    return drawn
