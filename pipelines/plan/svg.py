"""Puts the parts of a picture into an SVG document that fits the page it is shown on."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

__all__ = ["EXPERT_COLOURS", "svg", "svg_text"]

EXPERT_COLOURS = {"high": "#e07a3f", "low": "#3f8fe0"}

# Inside ComfyUI's page the picture uses its colours, elsewhere those of the system.
_STYLE = (
    ".NAME{color:var(--input-text,#222)}"
    "@media(prefers-color-scheme:dark){.NAME{color:var(--input-text,#ddd)}}"
    ".NAME text{font:11px sans-serif;fill:currentColor}"
)


def svg(name: str, size: tuple[int, int], label: str, parts: Iterable[str], style: str = "") -> str:
    """Return a document of this (width, height), whose text has the colour of the page.

    name: of its CSS class. label: what it shows, for those who cannot see it. style: further CSS.
    """
    width, height = size
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="{name}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(label)}">'
    )
    own = f"<style>{_STYLE.replace('NAME', name)}{style}</style>"
    return "\n".join([head, own, *parts, "</svg>"]) + "\n"


def svg_text(x: float, y: float, text: str, anchor: str = "start") -> str:
    """Return a line of text. anchor: which part of it stands at `x`: start, middle or end."""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'
