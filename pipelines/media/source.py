"""Media files from anywhere: what is damaged, or made in a way that this machine cannot read, is named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import av
from PIL import Image

from ..errors import MediaError

__all__ = ["opened_animation", "require_codec"]


def require_codec(stream: av.VideoStream | av.AudioStream, path: Path | str) -> None:
    """Raises MediaError when there is no decoder for a stream of `path`: PyAV gives it no context then."""
    if stream.codec_context is None:
        what = "picture" if stream.type == "video" else "sound"
        raise MediaError(f"the {what} of {path} is in a format that cannot be decoded here; convert it first")


@contextmanager
def opened_animation(content: Path | bytes, name: str | None = None) -> Iterator[Image.Image]:
    """An animated WebP, of which libav reads the first picture only. Its pictures are read by seeking.

    name: what an error calls it; its path when left out.
    Raises MediaError when it is missing, damaged, or promises more pixels than are safe to unpack.
    """
    try:
        with Image.open(BytesIO(content) if isinstance(content, bytes) else content) as image:
            yield image
    except OSError as error:
        raise MediaError(f"cannot read {name or content!s} as a video: {error.strerror or error}") from error
    except (EOFError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise MediaError(f"cannot read {name or content!s} as a video: {error}") from error
