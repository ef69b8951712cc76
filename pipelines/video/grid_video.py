"""Writes several videos of one size side by side as one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np

from ..errors import MediaError
from ..progress import Progress
from .encode_video import encode_video
from .frame_stream import Frame, FrameStream
from .probe import VideoFacts, probe
from .read import read_frames

__all__ = ["write_grid"]

_LARGEST = 8192  # longest side in pixels: H.264's largest level
_GAP, _SHADE = 4, 24


def write_grid(rows: Sequence[Sequence[Path]], out: Path, progress: Progress | None = None) -> VideoFacts:
    """Write the videos of `rows` to `out`, row under row. A video that ends early stays on its last frame.

    Raises MediaError for videos of different sizes or rates, or a grid of more than 8192 pixels a side.
    """
    facts = [probe(file) for row in rows for file in row]
    first, columns = facts[0], max(map(len, rows))
    for file, its in zip((file for row in rows for file in row), facts, strict=True):
        if (its.width, its.height, its.fps) != (first.width, first.height, first.fps):
            raise MediaError(f"{file.name} has another size or frame rate than the first video")
    width = columns * (first.width + _GAP) - _GAP
    height = len(rows) * (first.height + _GAP) - _GAP
    width, height = width + width % 2, height + height % 2
    if max(width, height) > _LARGEST:
        raise MediaError(f"a grid of {width}x{height} pixels is too large; compare fewer videos at once")
    return encode_video(
        _grid_frames(rows, first, (width, height)),
        out,
        width=width,
        height=height,
        fps=first.fps,
        frame_count=max(its.frames for its in facts),
        progress=progress,
    )


def _grid_frames(rows: Sequence[Sequence[Path]], facts: VideoFacts, size: tuple[int, int]) -> FrameStream:
    sheet = np.full((size[1], size[0], 3), _SHADE, np.uint8)
    with ExitStack() as streams:
        places = [
            (
                row * (facts.height + _GAP),
                column * (facts.width + _GAP),
                streams.enter_context(closing(read_frames(file))),  # type: ignore[type-var]
            )
            for row, files in enumerate(rows)
            for column, file in enumerate(files)
        ]
        while True:
            alive = False
            for top, left, stream in places:
                frame: Frame | None = next(stream, None)
                if frame is not None:
                    alive = True
                    sheet[top : top + facts.height, left : left + facts.width] = frame
            if not alive:
                return
            yield sheet.copy()
