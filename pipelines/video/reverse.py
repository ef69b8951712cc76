"""Reverses a clip without holding it in memory.

The VAE decodes only forwards, so the frames wait in a temporary file. Reversing before interpolating gives
the same result with fewer frames in that file.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from ..errors import MediaError
from .frame_stream import FrameStream, close

__all__ = ["reversed_stream"]


def reversed_stream(stream: FrameStream, folder: Path) -> FrameStream:
    """Yield the frames of `stream` in reverse, through a temporary file in `folder` that is always removed.

    Raises MediaError if the folder is full or cannot be written, or if the frames differ in size.
    """
    try:
        with tempfile.TemporaryFile(prefix="wan-duet-", dir=folder) as spool:
            shape: tuple[int, ...] = ()
            count, kind = 0, np.dtype(np.uint8)
            for frame in stream:
                shape = shape or frame.shape
                if frame.shape != shape:
                    raise MediaError(
                        f"cannot reverse the video: frame {count} is {frame.shape[1]}x{frame.shape[0]}, "
                        f"the ones before are {shape[1]}x{shape[0]}; all must have one size"
                    )
                kind = frame.dtype  # 16 bits where HDR is kept
                spool.write(np.ascontiguousarray(frame).data)
                count += 1
            size_bytes = int(np.prod(shape)) * kind.itemsize
            for index in reversed(range(count)):
                spool.seek(index * size_bytes)
                yield np.frombuffer(spool.read(size_bytes), kind).reshape(shape)
    except OSError as error:
        raise MediaError(
            f"cannot keep the frames to reverse in {folder}: {error}; "
            "a writable folder with room for the uncompressed clip works"
        ) from error
    finally:
        close(stream)
