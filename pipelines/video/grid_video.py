"""Writes several videos of one size side by side as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import MediaError
from ..progress import Progress
from .encode_video import encode_video
from .frame_stream import Frame, FrameStream
from .probe import VideoFacts, probe
from .read import read_frames

__all__ = ["write_grid"]

_LARGEST = 8192  # longest side in pixels: H.264's largest level
_GAP, _SHADE = 4, 24


def write_grid(
    rows: Sequence[Sequence[Path]],
    out: Path,
    progress: Progress | None = None,
    show: Callable[[Path, Frame], None] = lambda *_: None,
) -> VideoFacts:
    """Write the videos of `rows` to `out`, row under row. A video that ends early stays on its last frame.

    show: called with each file and its frame: the first frames of all files, row by row, then the second.

    They are made smaller where the grid would have a side of more than 8192 pixels.

    Raises MediaError for videos of different sizes or rates, and for more of them than a side has room for.
    """
    facts = [probe(file) for row in rows for file in row]
    first, columns = facts[0], max(map(len, rows))
    for file, its in zip((file for row in rows for file in row), facts, strict=True):
        if (its.width, its.height, its.fps) != (first.width, first.height, first.fps):
            raise MediaError(f"{file.name} has another size or frame rate than the first video")
    cell = _cell_size(first, columns, len(rows))
    width, height = columns * (cell[0] + _GAP) - _GAP, len(rows) * (cell[1] + _GAP) - _GAP
    width, height = width + width % 2, height + height % 2
    return encode_video(
        _grid_frames(rows, cell, (width, height), show),
        out,
        width=width,
        height=height,
        fps=first.fps,
        frame_count=max(its.frames for its in facts),
        progress=progress,
    )


def _cell_size(facts: VideoFacts, columns: int, rows: int) -> tuple[int, int]:
    """Return the width and the height of each video in the grid."""
    room = [(_LARGEST + _GAP) // count - _GAP for count in (columns, rows)]
    scale = min(1.0, room[0] / facts.width, room[1] / facts.height)
    width, height = int(facts.width * scale), int(facts.height * scale)
    if min(width, height) < 1:
        raise MediaError(f"a grid of {columns} times {rows} videos is too large; compare fewer at once")
    return width, height


def _grid_frames(
    rows: Sequence[Sequence[Path]],
    cell: tuple[int, int],
    size: tuple[int, int],
    show: Callable[[Path, Frame], None],
) -> FrameStream:
    width, height = cell
    sheet = np.full((size[1], size[0], 3), _SHADE, np.uint8)
    with ExitStack() as streams:
        places = [
            (
                row * (height + _GAP),
                column * (width + _GAP),
                file,
                streams.enter_context(closing(read_frames(file))),  # type: ignore[type-var]
            )
            for row, files in enumerate(rows)
            for column, file in enumerate(files)
        ]
        while True:
            alive = False
            for top, left, file, stream in places:
                frame: Frame | None = next(stream, None)
                if frame is not None:
                    alive = True
                    show(file, frame)
                    sheet[top : top + height, left : left + width] = _resized(frame, cell)
            if not alive:
                return
            yield sheet.copy()


def _resized(frame: Frame, size: tuple[int, int]) -> Frame:
    if (frame.shape[1], frame.shape[0]) == size:
        return frame
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS))
