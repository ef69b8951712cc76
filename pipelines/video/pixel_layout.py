"""Converts a frame to another pixel layout, exact to rounding, with each colour where it belongs.

libswscale's usual ways are faster and wrong: a colour is up to 4 of 255 off, and one that two pixels share is
drawn half a pixel beside its place. PyAV's `reformat` cannot say where it belongs; the filter `scale` can.
"""

from __future__ import annotations

import threading
from fractions import Fraction
from typing import Any

import av
from av.filter import Graph

__all__ = [
    "AVERAGED",
    "INTERPOLATED",
    "LEFT",
    "SMOOTH",
    "UNCHANGED",
    "forget_graphs",
    "in_layout",
    "siting_of",
]

_EXACT = "accurate_rnd+full_chroma_int+full_chroma_inp"
AVERAGED, INTERPOLATED, SMOOTH = (f"{way}+{_EXACT}" for way in ("area", "bilinear", "bicubic"))
"""Ways to make fewer pixels of many, more of few, and another size: `flags` of the filter."""

LEFT = "left"
"""Where a colour that two or four pixels share belongs, in libav's words: on the left ones, halfway down."""

# JFIF, ISO/IEC 11172-2 and ITU-T H.263. All others have it on the left, unless they state it, which PyAV
# does not tell.
_CENTRED = frozenset({"mjpeg", "mpeg1video", "h263", "flv1"})

UNCHANGED = {
    "in_color_matrix": "bt709",
    "out_color_matrix": "bt709",
    "in_range": "tv",
    "out_range": "tv",
}
"""Options with which Y'CbCr stays what it is, whatever its matrix and range are."""

_ANY_BASE = Fraction(1, 25)  # of a frame without a time; it is not used
_COLOURS = ("colorspace", "color_range", "color_primaries", "color_trc")
_MOST_GRAPHS = 4  # of a thread: two inputs and an output, each with transparency
_graphs = threading.local()  # a graph works for one thread at a time


def in_layout(frame: av.VideoFrame, layout: str, options: dict[str, str]) -> av.VideoFrame:
    """Return the frame in a pixel format of libav. options: of its filter `scale`.

    Frames that are alike share a graph of filters, as long as `forget_graphs` is not called in their thread.
    A new one for each frame takes time, and from PyAV 19 on stays in memory until Python looks for cycles.
    """
    kept = _graphs.__dict__.setdefault("kept", {})
    wanted = (_kind_of(frame), layout, tuple(options.items()))
    graph = kept.pop(wanted, None) or _graph(frame, layout, options)
    graph.vpush(frame)
    made: av.VideoFrame = graph.vpull()
    if len(kept) == _MOST_GRAPHS:
        del kept[next(iter(kept))]
    kept[wanted] = graph  # only one that works, and as the youngest
    return made


def forget_graphs() -> None:
    """Free what `in_layout` keeps for frames like the last ones of this thread."""
    _graphs.__dict__.clear()


def _kind_of(frame: av.VideoFrame) -> tuple[Any, ...]:
    """Return what a graph is made for. One whose frames change in it may convert them wrongly."""
    size = frame.width, frame.height, frame.format.name, frame.time_base
    return (*size, *(getattr(frame, name, None) for name in _COLOURS))


def _graph(frame: av.VideoFrame, layout: str, options: dict[str, str]) -> Graph:
    """Return a graph that converts frames like this one.

    One thread: libswscale's threads now and then leave a line of colour out on the way to 4:2:2 with 10 bits
    (PyAV 18.1).
    """
    graph = Graph()
    if hasattr(graph, "threads"):  # PyAV 16 has no such choice
        graph.threads = 1
    source = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format,
        time_base=frame.time_base or _ANY_BASE,
    )
    scale = graph.add("scale", ":".join(f"{name}={value}" for name, value in options.items()))
    form, sink = graph.add("format", layout), graph.add("buffersink")
    source.link_to(scale)
    scale.link_to(form)
    form.link_to(sink)
    graph.configure()
    return graph


def siting_of(codec: str) -> str:
    """Return where a codec has the colours that pixels share. codec: libav's name."""
    return "center" if codec in _CENTRED else LEFT
