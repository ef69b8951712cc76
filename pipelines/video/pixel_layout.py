"""Converts a frame to another pixel layout, exact to rounding, with each colour where it belongs.

libswscale's usual ways are faster and wrong: a colour is up to 4 of 255 off, and one that two pixels share is
drawn half a pixel beside its place. PyAV's `reformat` cannot say where it belongs; the filter `scale` can.
"""

from __future__ import annotations

from fractions import Fraction

import av
from av.filter import Graph

__all__ = ["AVERAGED", "INTERPOLATED", "LEFT", "SMOOTH", "UNCHANGED", "in_layout", "siting_of"]

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


def in_layout(frame: av.VideoFrame, layout: str, options: dict[str, str]) -> av.VideoFrame:
    """Return the frame in a pixel format of libav. options: of its filter `scale`.

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
    graph.vpush(frame)
    return graph.vpull()


def siting_of(codec: str) -> str:
    """Return where a codec has the colours that pixels share. codec: libav's name."""
    return "center" if codec in _CENTRED else LEFT
