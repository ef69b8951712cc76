"""Writes a GIF with one palette of 256 colours or fewer, chosen from all its frames.

The palette is known after the last frame, so the frames wait in a temporary file.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import IO

import av
import numpy as np
from av.filter import Graph
from av.filter.context import FilterContext

from ..errors import MediaError
from .frame_stream import Frame
from .frame_writer import FileSpec
from .muxed_file import MuxedFile, muxed_file

__all__ = ["MOST_FPS", "gif_file", "size_note"]

log = logging.getLogger(__name__)

MOST_FPS = 50
"""Frames per second of a GIF: it counts hundredths of a second, and browsers show 1/100 as 1/10."""

_MIB = 2**20
# Bytes per pixel of a frame, for noise. The grainy clip of bench/encode_table.py takes 0.3 to 0.8, a disc
# that moves over a flat ground 0.005.
_MOST = 1.3
_ANY_BASE = Fraction(1, 100)  # of the filters; the file has its own


def size_note(spec: FileSpec) -> str:
    """Return how large a GIF becomes, at most and roughly."""
    mebipixels = spec.width * spec.height * spec.frame_count / _MIB
    return f"a GIF of this size takes up to about {mebipixels * _MOST:.2f} MiB, flat drawings far less"


class _GifFile:
    """A GIF that is being written: the frames wait in `spool` for their palette."""

    def __init__(self, file: MuxedFile, spool: IO[bytes], spec: FileSpec) -> None:
        self._file, self._spool, self._spec, self._count = file, spool, spec, 0
        self._palette = Graph()
        source = self._source(self._palette)
        choice = self._palette.add(
            "palettegen", f"max_colors={spec.options['max_colors']}:reserve_transparent=0:stats_mode=full"
        )
        source.link_to(choice)
        choice.link_to(self._palette.add("buffersink"))
        self._palette.configure()

    def write(self, frame: Frame, index: int) -> None:
        self._spool.write(np.ascontiguousarray(frame).data)
        self._palette.vpush(self._coloured(frame, index))
        with suppress(av.BlockingIOError):  # there is no palette yet; without the try, frames wait in memory
            self._palette.vpull()
        self._count += 1

    def finish(self, check: Callable[[], None]) -> None:
        self._palette.vpush(None)
        palette = self._palette.vpull()
        graph, source, colours = self._mapping(palette)
        colours.push(palette)
        colours.push(None)
        self._spool.seek(0)
        for index in range(self._count):
            check()
            frame = np.frombuffer(self._spool.read(math.prod(self._spec.shape)), np.uint8)
            source.push(self._coloured(frame.reshape(self._spec.shape), index))
            self._file.put(graph.vpull(), index)
        self._file.finish(check)

    def _mapping(self, palette: av.VideoFrame) -> tuple[Graph, FilterContext, FilterContext]:
        """Return the filter that maps frames to the palette, and its inputs: frames, palette."""
        graph = Graph()
        source = self._source(graph)
        colours = graph.add_buffer(
            width=palette.width, height=palette.height, format=palette.format, time_base=_ANY_BASE
        )
        use = graph.add("paletteuse", f"dither={self._spec.options['dither']}")
        source.link_to(use, 0, 0)
        colours.link_to(use, 0, 1)
        use.link_to(graph.add("buffersink"))
        graph.configure()
        return graph, source, colours

    def _source(self, graph: Graph) -> FilterContext:
        width, height = self._spec.width, self._spec.height
        form = av.VideoFormat("bgra", width, height)
        return graph.add_buffer(width=width, height=height, format=form, time_base=_ANY_BASE)

    def _coloured(self, frame: Frame, index: int) -> av.VideoFrame:
        opaque = np.full((*frame.shape[:2], 4), 255, np.uint8)
        opaque[..., :3] = frame[..., ::-1]
        made = av.VideoFrame.from_ndarray(opaque, format="bgra")
        made.pts, made.time_base = index, _ANY_BASE
        return made


@contextmanager
def gif_file(place: Path, spec: FileSpec, name: str) -> Iterator[_GifFile]:
    """Open a GIF at `place` for frames, and say how large it becomes. name: of the file, for messages.

    Raises MediaError for more frames per second than players show.
    """
    if spec.fps > MOST_FPS:
        raise MediaError(
            f"{name}: a GIF shows at most {MOST_FPS} frames per second, not {float(spec.fps):g}; "
            "`media convert --fps 25` works"
        )
    log.warning("%s: %s; an MP4 usually takes a tenth or less", name, size_note(spec))
    plain = replace(spec, options={})
    with (
        tempfile.TemporaryFile(prefix="wan-duet-", dir=place.parent) as spool,
        muxed_file(place, plain) as file,
    ):
        yield _GifFile(file, spool, spec)
    log.warning("%s: it takes %.2f MiB", name, place.stat().st_size / _MIB)
