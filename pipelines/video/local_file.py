"""Reads files of this machine that a request names: content, type and hash."""

from __future__ import annotations

import base64
import binascii
import hashlib
import mimetypes
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from ..errors import RequestError
from ..files.sample_inputs import sample_input
from ..request.field_rows import medium_of
from .stated_end import is_cut_off

__all__ = ["FindFile", "LocalFile", "any_file", "data_uri", "file_at", "file_in_data_uri", "of_type"]

FindFile = Callable[[str, str], Path]  # (name in the request, its field) -> the file

# Python's own table differs between systems.
_TYPES = {
    ".safetensors": "application/octet-stream",
    ".webp": "image/webp",
    ".heic": "image/heic",
    ".heif": "image/heif",
    ".hif": "image/heif",  # of cameras
    ".avif": "image/avif",
    ".exr": "image/x-exr",
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
    ".m4v": "video/mp4",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".avi": "video/x-msvideo",
    ".ts": "video/mp2t",  # elsewhere translations of Qt, or TypeScript
    ".mts": "video/mp2t",
    ".m2ts": "video/mp2t",
    ".3gp": "video/3gpp",
    ".flv": "video/x-flv",
    ".ogv": "video/ogg",
    ".wmv": "video/x-ms-wmv",
    ".mka": "audio/x-matroska",
    ".opus": "audio/ogg",
    ".wma": "audio/x-ms-wma",
    ".tga": "image/x-tga",
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".mp3": "audio/mpeg",
}
_CHUNK = 2**20


@dataclass(frozen=True)
class LocalFile:
    """A file that was read once.

    content:  its path, or its bytes.
    sha256:   of its bytes, in hex.
    mtime_ns: time of the last change when it was hashed. None for bytes.
    """

    name: str
    content_type: str
    size_bytes: int
    sha256: str
    content: Path | bytes = field(repr=False)
    mtime_ns: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return what a receipt says of it. Its folder is private and left out."""
        return {"name": self.name, "sha256": self.sha256, "size_bytes": self.size_bytes}

    def read(self, begin: int, size_bytes: int) -> bytes:
        if isinstance(self.content, bytes):
            return self.content[begin : begin + size_bytes]
        try:
            with self.content.open("rb") as stream:
                stream.seek(begin)
                return stream.read(size_bytes)
        except OSError as error:
            found = f"cannot be read any more: {error.strerror or error}"
            raise RequestError.of(str(self.content), found, "put it back and run again") from None

    def is_unchanged(self) -> bool:
        """Return whether size and time of the file are still the same."""
        if isinstance(self.content, bytes):
            return True
        try:
            status = self.content.stat()
        except OSError:
            return False
        return (status.st_size, status.st_mtime_ns) == (self.size_bytes, self.mtime_ns)


def any_file(name: str, field: str) -> Path:
    """Find a file for a user at a terminal, who may name any, also one that comes with the pack."""
    del field
    return sample_input(name) or Path(name).expanduser()


def file_at(
    path: Path, field: str, check: Callable[[], None] = lambda: None, instead: str = "a file that can be read"
) -> LocalFile:
    """Read and hash a file. Raises RequestError on `field` if it is empty or cannot be read.

    check:   called between parts. Raises to stop.
    instead: what else the field takes, for the error.
    """
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as stream:
            mtime_ns = os.fstat(stream.fileno()).st_mtime_ns
            while chunk := stream.read(_CHUNK):
                check()
                digest.update(chunk)
                size += len(chunk)
    except OSError as error:
        found = f"{path}: {error.strerror or error}"
        raise RequestError.of(field, found, f"give {instead}") from None
    if size == 0:
        raise RequestError.of(field, f"{path} is empty", f"give {instead}")
    suffix = path.suffix.lower()
    guessed = _TYPES.get(suffix) or mimetypes.guess_type(f"file{suffix}")[0] or "application/octet-stream"
    return LocalFile(path.name, guessed, size, digest.hexdigest(), path, mtime_ns)


def data_uri(content: bytes, media_type: str) -> str:
    """Return content as a data URI (RFC 2397)."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def file_in_data_uri(uri: str, field: str) -> LocalFile:
    """Decode the file in a data URI. Raises RequestError on `field` if it is invalid or empty."""
    head, comma, data = uri.partition(",")
    content_type, *options = head[len("data:") :].split(";")
    try:
        content = unquote_to_bytes(data)
        if "base64" in [option.strip().lower() for option in options]:
            content = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        content = b""
    if not comma or not content:
        raise RequestError.of(field, "a data URI without readable data", "give data:image/png;base64,...")
    content_type = content_type.strip().lower() or "application/octet-stream"
    suffix = mimetypes.guess_extension(content_type) or ""
    digest = hashlib.sha256(content).hexdigest()
    return LocalFile(f"{digest[:12]}{suffix}", content_type, len(content), digest, content)


def of_type(file: LocalFile, field: str) -> LocalFile:
    """Return `file`. Raises RequestError on `field` if it has another type than is needed, or is cut off."""
    # A video contains sound too.
    medium = medium_of(field)
    wanted = ("audio/", "video/") if medium == "audio" else f"{medium}/"
    if not file.content_type.startswith(wanted):
        raise RequestError.of(field, f"{file.name} is {file.content_type}", f"give a file with {medium}")
    if is_cut_off(file.content):
        kept = "; `wan-duet media convert --salvage` keeps what is there" if medium == "video" else ""
        found = f"{file.name} is cut off after {file.size_bytes} bytes, or damaged before"
        raise RequestError.of(field, found, f"download or copy it again{kept}")
    return file
