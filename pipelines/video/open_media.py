"""Opens media files. Errors name files that are damaged or that this machine cannot decode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from PIL import Image

from ..errors import MediaError

__all__ = ["exact_fraction", "libav_name", "open_animation", "open_media", "require_codec", "tags_of"]

# Else PyAV below 19 fails on a tag that is not UTF-8. PyAV 19 has no such argument and reads all tags.
_NOT_UTF8: dict[str, Any] = (
    {} if int(av.__version__.partition(".")[0]) >= 19 else {"metadata_errors": "replace"}
)


def open_media(content: Path | bytes) -> InputContainer:
    """Open a file, or its content, with PyAV. The caller closes it. No other function opens one with PyAV.

    Raises OSError or av.FFmpegError if it is missing or not a media file.
    """
    source, reachable = (
        (BytesIO(content), "none") if isinstance(content, bytes) else (libav_name(content), "file")
    )
    # Else a playlist, or a file that names its parts, could make libav open network addresses.
    # As `options` they would go to every stream too, and PyAV 16 then ends Python at a cut FLV or MPEG file.
    options = {"protocol_whitelist": reachable}
    container: InputContainer = av.open(source, "r", container_options=options, **_NOT_UTF8)
    return container


def libav_name(path: Path) -> str:
    """Return the name of a file for libav, which takes what is before a colon for a protocol."""
    return f"file:{path}"


def tags_of(container: InputContainer) -> dict[str, str]:
    """Return the tags of a file. Bytes that are not UTF-8 become U+FFFD, which can be written again."""
    # PyAV 19 gives each such byte as half of a surrogate pair; older ones have replaced it already.
    return {_printable(name): _printable(text) for name, text in container.metadata.items()}


def _printable(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def exact_fraction(value: Fraction | None) -> Fraction | None:
    """Return a rate or time base of PyAV as a Fraction. None if the file does not state it.

    PyAV 19 returns its own type, which is rounded to 32 bits and has 0/1 for an unknown value.
    """
    return Fraction(value.numerator, value.denominator) if value else None


def require_codec(stream: av.VideoStream | av.AudioStream, path: Path | str) -> None:
    """Raise MediaError if there is no decoder for a stream of `path`. PyAV then gives it no context."""
    if stream.codec_context is None:
        what = "video" if stream.type == "video" else "audio"
        raise MediaError(f"the {what} of {path} is in a format that cannot be decoded here; convert it first")


@contextmanager
def open_animation(content: Path | bytes, name: str | None = None) -> Iterator[Image.Image]:
    """Open an animated WebP, whose further frames libav does not read. Seek to read a frame.

    name: of the file, for errors.

    Raises MediaError if it is missing, damaged, or claims more pixels than are safe to unpack.
    """
    try:
        with Image.open(BytesIO(content) if isinstance(content, bytes) else content) as image:
            yield image
    except OSError as error:
        raise MediaError(f"cannot read {name or content!s} as a video: {error.strerror or error}") from error
    except (EOFError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise MediaError(f"cannot read {name or content!s} as a video: {error}") from error
