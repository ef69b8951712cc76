"""Turns interlaced frames into whole ones. Frames that are whole pass through unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import av
from av.filter import Graph

from ..errors import MediaError
from .frame_stream import close

__all__ = ["deinterlaced"]

# One whole frame for each interlaced one, from the fields before and after: BBC R&D's bwdif, in libavfilter.
_FILTER = ("bwdif", "mode=send_frame:deint=interlaced")


def deinterlaced(frames: Iterator[av.VideoFrame], name: str) -> Iterator[av.VideoFrame]:
    """Yield as many frames as `frames`, with their times. From the first interlaced one on they are filtered.

    name: of the file, for errors.
    """
    graph: Graph | None = None
    layout: tuple[object, ...] = ()
    try:
        for frame in frames:
            now = frame.format.name, frame.width, frame.height, frame.time_base
            if graph is not None and now != layout:
                yield from _rest(graph)
                graph = None
            if graph is None and not frame.interlaced_frame:
                yield frame
                continue
            if graph is None:
                graph, layout = _graph(frame, name), now
            graph.vpush(frame)
            yield from _ready(graph)
        if graph is not None:
            yield from _rest(graph)
    finally:
        close(frames)


def _graph(frame: av.VideoFrame, name: str) -> Graph:
    if _FILTER[0] not in av.filter.filters_available:
        raise MediaError(f"{name} is interlaced, and this PyAV has no {_FILTER[0]}; deinterlace it first")
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    work, sink = graph.add(*_FILTER), graph.add("buffersink")
    source.link_to(work)
    work.link_to(sink)
    graph.configure()
    return graph


def _rest(graph: Graph) -> Iterator[av.VideoFrame]:
    graph.vpush(None)
    yield from _ready(graph)


def _ready(graph: Graph) -> Iterator[av.VideoFrame]:
    with suppress(av.BlockingIOError, av.EOFError):  # it waits for another frame, or there is none
        while True:
            yield graph.vpull()
