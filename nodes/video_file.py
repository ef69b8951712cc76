"""Finds the file behind a VIDEO on a socket."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import folder_paths

from ..pipelines.files.on_disk import discard
from .comfy_interface import Input

__all__ = ["file_of", "is_video"]


def is_video(value: Any) -> bool:
    """Return whether the value of a socket with several types is a VIDEO."""
    return isinstance(value, Input.Video)


@contextmanager
def file_of(video: Any) -> Iterator[Path]:
    """Yield the file of a video. A video in memory, or a part of a file, is written to temp meanwhile."""
    source = video.get_stream_source()
    whole = not any(video.get_active_trim_window())
    if whole and isinstance(source, str):
        yield Path(source)
        return
    copy = Path(folder_paths.get_temp_directory()) / f"wan_duet_{uuid.uuid4().hex}.mp4"
    copy.parent.mkdir(parents=True, exist_ok=True)
    try:
        if whole:
            copy.write_bytes(source.getbuffer())
        else:
            video.save_to(str(copy))
        yield copy
    finally:
        discard(copy)
