"""Single pictures: a preview, a thumbnail, a sheet of frames to look at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..errors import MediaError
from .frames import Frame
from .tags import checked

__all__ = ["contact_sheet", "save_png"]


def save_png(frame: Frame, path: Path, tags: Mapping[str, str] | None = None) -> None:
    """Write one frame, with `tags` as ComfyUI reads them back from a PNG."""
    info = PngInfo()
    for key, value in checked(tags or {}).items():
        info.add_itxt(key, value)
    try:
        Image.fromarray(frame).save(path, format="PNG", pnginfo=info)
    except OSError as error:
        raise MediaError(f"cannot write {path}: {error}") from error


def contact_sheet(frames: Sequence[Frame], columns: int) -> Frame:
    """Frames of one size in rows of `columns`, left to right; what is left of the last row is black."""
    if not frames or columns < 1:
        raise ValueError("a contact sheet needs at least one frame and one column")
    height, width, _ = frames[0].shape
    columns = min(columns, len(frames))
    sheet = np.zeros((math.ceil(len(frames) / columns) * height, columns * width, 3), np.uint8)
    for index, frame in enumerate(frames):
        top, left = index // columns * height, index % columns * width
        sheet[top : top + height, left : left + width] = frame
    return sheet
