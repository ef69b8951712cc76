"""Draws a workflow as its nodes and links, without a ComfyUI: a picture for one that cannot run here."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageColor, ImageDraw, ImageFont

__all__ = ["graph_picture"]

_TOP = 30  # height of a node's title, in units of the canvas
_ROW = 20  # distance of two sockets
_MARGIN = 24  # pixels around the graph
_FINER = 3  # drawn larger and made smaller, which smooths lines
_TEXT = 15  # pixels
_BACK, _NODE, _HEAD, _WORDS = "#202020", "#353535", "#2a2a2a", "#d8d8d8"
_LINKS = {"WAN_REQUEST": "#c9a34a", "WAN_MODEL": "#a583d6", "VIDEO": "#6fb36f", "IMAGE": "#64b5f6"}
_OTHER = "#9a9a9a"
_NAMES = {"MarkdownNote": "Start here"}


class _Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float


def graph_picture(workflow: Path, size: tuple[int, int]) -> Image.Image:
    """Return an RGB picture of `size` (width, height).

    workflow: in UI form; its twin in api/ has the titles.
    """
    graph = json.loads(workflow.read_text(encoding="utf-8"))
    twin = json.loads((workflow.parent / "api" / workflow.name).read_text(encoding="utf-8"))
    titles = {int(name): item["_meta"]["title"] for name, item in twin.items()}
    boxes = dict(_boxes(graph, size))
    picture = Image.new("RGB", (size[0] * _FINER, size[1] * _FINER), _BACK)
    draw = ImageDraw.Draw(picture)
    for line, colour in _links(graph, boxes):
        draw.line(line, fill=colour, width=2 * _FINER, joint="curve")
    for node in graph["nodes"]:
        title = titles.get(node["id"]) or _NAMES.get(node["type"], node["type"])
        _draw_node(draw, boxes[node["id"]], title, node.get("color"), node.get("bgcolor"))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _boxes(graph: Mapping[str, Any], size: tuple[int, int]) -> Iterator[tuple[int, _Box]]:
    """Yield (id, box in pixels of the large picture) of each node, all of them fitted into the picture."""
    corners = {
        node["id"]: (x, y - _TOP, x + w, y + h)
        for node in graph["nodes"]
        for (x, y), (w, h) in [(node["pos"], node["size"])]
    }
    left, top = (min(box[side] for box in corners.values()) for side in (0, 1))
    right, bottom = (max(box[side] for box in corners.values()) for side in (2, 3))
    scale = min((size[0] - 2 * _MARGIN) / (right - left), (size[1] - 2 * _MARGIN) / (bottom - top))
    across = (size[0] - (right - left) * scale) / 2 - left * scale
    down = (size[1] - (bottom - top) * scale) / 2 - top * scale
    for name, (x1, y1, x2, y2) in corners.items():
        edges = x1 * scale + across, y1 * scale + down, x2 * scale + across, y2 * scale + down
        yield name, _Box(*(edge * _FINER for edge in edges))


def _links(
    graph: Mapping[str, Any], boxes: Mapping[int, _Box]
) -> Iterator[tuple[list[tuple[float, float]], str]]:
    """Yield the points and the colour of each link."""
    heights = {node["id"]: node["size"][1] + _TOP for node in graph["nodes"]}
    for _, source, output, target, socket, kind in graph["links"]:
        ends = [
            (edge, box.top + (_TOP + (slot + 0.7) * _ROW) * (box.bottom - box.top) / heights[node])
            for node, box, slot in ((source, boxes[source], output), (target, boxes[target], socket))
            for edge in [box.right if node == source else box.left]
        ]
        yield _curve(*ends), _LINKS.get(kind, _OTHER)


def _curve(start: tuple[float, float], end: tuple[float, float]) -> list[tuple[float, float]]:
    """Return points of a cubic curve that leaves and arrives horizontally."""
    bend = max(abs(end[0] - start[0]) / 2, 20 * _FINER)
    xs, ys = (start[0], start[0] + bend, end[0] - bend, end[0]), (start[1], start[1], end[1], end[1])
    weights = [
        ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3) for t in (i / 32 for i in range(33))
    ]
    return [(sum(map(float.__mul__, w, xs)), sum(map(float.__mul__, w, ys))) for w in weights]


def _draw_node(draw: ImageDraw.ImageDraw, box: _Box, title: str, head: str | None, body: str | None) -> None:
    font = ImageFont.load_default(_TEXT * _FINER)
    radius, bar = 6 * _FINER, 10 * _FINER
    draw.rounded_rectangle(box, radius, fill=ImageColor.getrgb(body or _NODE))
    draw.rounded_rectangle(
        (*box[:3], min(box.top + bar, box.bottom)), radius, fill=ImageColor.getrgb(head or _HEAD)
    )
    letters = max(4, int((box.right - box.left) / (0.55 * _TEXT * _FINER)))
    words = "\n".join(textwrap.wrap(title, letters))
    middle = ((box.left + box.right) / 2, (box.top + box.bottom + bar) / 2)
    draw.multiline_text(middle, words, fill=_WORDS, font=font, anchor="mm", align="center")
