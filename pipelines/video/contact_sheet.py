"""Draws a contact sheet: one row of frames per video, evenly spaced, to compare runs at a glance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..errors import RequestError
from .read import TimedFrame, read_timed_frames
from .read_image import image_pixels

__all__ = [
    "LARGEST_SHEET",
    "ROW_EDGES",
    "SHEET_IMAGES",
    "contact_sheet",
    "drawn_sheet",
    "sheet_places",
    "thumbnail",
]

SHEET_IMAGES = (".png", ".jpg", ".jpeg")
LARGEST_SHEET = 16384  # longest side in pixels; few programs open larger images
_GAP, _LABEL = 4, 18  # pixels: between frames, and height of a line of text
ROW_EDGES = _GAP + _LABEL  # what a row has beside its frames, in pixels
_BACKGROUND, _INK = (24, 24, 24), (230, 230, 230)

Pixels = NDArray[np.uint8]  # (H, W, 3)


def contact_sheet(
    videos: Sequence[tuple[str, Path]],
    columns: int,
    width: int,
    check: Callable[[], None] = lambda: None,
) -> Pixels:
    """Draw the sheet (H, W, 3). Only the chosen frames are held in memory.

    videos:  (label, file) of each row. An image fills one column. Labels are printed in ASCII.
    columns: number of frames of each video, with the first and the last. Fewer if the video has fewer.
    width:   of one frame, in pixels. Its height follows from the video.
    check:   called for every frame that is read. Raises to stop.

    Raises MediaError for an unreadable file, RequestError for a sheet with a side of more than 16384 pixels.
    """
    if columns * (width + _GAP) > LARGEST_SHEET:
        raise RequestError.of("columns", f"{columns} frames of {width} pixels", "give fewer, or smaller ones")
    return drawn_sheet(
        [(label, _thumbnails(file, columns, width, check)) for label, file in videos], columns, width
    )


def drawn_sheet(rows: Sequence[tuple[str, Sequence[Image.Image]]], columns: int, width: int) -> Pixels:
    """Draw the sheet of frames that are read already. rows: (label, the frames, `width` pixels wide)."""
    heights = [_LABEL + max(frame.height for frame in frames) + _GAP for _, frames in rows]
    if sum(heights) > LARGEST_SHEET:
        raise RequestError.of("width", f"{width} for {len(rows)} videos", "give a smaller width")
    sheet = Image.new("RGB", (columns * (width + _GAP) - _GAP, sum(heights)), _BACKGROUND)
    draw, top = ImageDraw.Draw(sheet), 0
    for (label, frames), height in zip(rows, heights, strict=True):
        draw.text((4, top + 3), ascii(label)[1:-1], fill=_INK, font=ImageFont.load_default())
        for column, frame in enumerate(frames):
            sheet.paste(frame, (column * (width + _GAP), top + _LABEL))
        top += height
    return np.asarray(sheet)


def _thumbnails(file: Path, columns: int, width: int, check: Callable[[], None]) -> list[Image.Image]:
    if file.suffix.lower() in SHEET_IMAGES:
        pixels = (image_pixels(file) * 255).round().astype(np.uint8)
        return [thumbnail(pixels, width)]

    def frames() -> Iterator[TimedFrame]:
        for timed in read_timed_frames(file):
            check()
            yield timed

    # The video is read twice: the first time its frames are counted.
    wanted = sheet_places(sum(1 for _ in frames()), columns)
    return [thumbnail(timed.frame(), width) for number, timed in enumerate(frames()) if number in wanted]


def sheet_places(frames: int, columns: int) -> set[int]:
    """Return the numbers of evenly spaced frames. For one column, the middle frame."""
    if columns == 1:
        return {frames // 2}
    return {round(column * (frames - 1) / (columns - 1)) for column in range(columns)}


def thumbnail(pixels: Pixels, width: int) -> Image.Image:
    """Return a frame (H, W, 3) with a width of so many pixels."""
    height = max(1, round(width * pixels.shape[0] / pixels.shape[1]))
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
