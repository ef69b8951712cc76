"""Writes what libav leaves out of a WebP file: its tags, and that it is transparent.

Tags are EXIF texts ("prompt:{...}") as in ComfyUI.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

from ..errors import MediaError
from .tags import PROMPT

__all__ = ["mark_transparent", "read_webp_tags", "write_webp_tags"]

_MODEL = 0x0110  # EXIF number of the prompt in ComfyUI; other tags have lower numbers
_HAS_EXIF, _HAS_ALPHA, _ASCII = 0x08, 0x10, 2
_FLAGS = 20  # where the extended header has them


def write_webp_tags(file: Path, tags: Mapping[str, str], width: int, height: int) -> None:
    """Add `tags` to a finished file. width, height: of its frames, in pixels."""
    if not tags:
        return
    data = file.read_bytes()
    chunks = data[12:]
    if chunks[:4] != b"VP8X":  # a file with one image has no extended header
        header = struct.pack("<I", 0) + _uint24(width - 1) + _uint24(height - 1)
        chunks = _chunk(b"VP8X", header) + chunks
    flags = chunks[8] | _HAS_EXIF
    chunks = chunks[:8] + bytes([flags]) + chunks[9:] + _chunk(b"EXIF", _exif(tags))
    file.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks)


def mark_transparent(file: Path) -> None:
    """Say in the header that a file has transparency. libav does not if all its frames are equal."""
    with file.open("r+b") as stream:
        header = stream.read(_FLAGS + 1)
        if header[12:16] == b"VP8X":
            stream.seek(_FLAGS)
            stream.write(bytes([header[_FLAGS] | _HAS_ALPHA]))


def read_webp_tags(exif: Mapping[int, object]) -> dict[str, str]:
    """Return the tags among the EXIF entries that Pillow read."""
    found = {}
    for value in exif.values():
        if isinstance(value, str) and ":" in value:
            name, _, text = value.encode("latin-1", "replace").decode("utf-8", "replace").partition(":")
            found[name] = text
    return found


def _exif(tags: Mapping[str, str]) -> bytes:
    """Return a TIFF directory with a text per tag. The format requires rising numbers."""
    others = [name for name in tags if name != PROMPT]
    numbers = {PROMPT: _MODEL} if PROMPT in tags else {}
    numbers.update({name: _MODEL - 1 - index for index, name in enumerate(others)})
    if len(others) >= _MODEL:
        raise MediaError(f"{len(tags)} tags do not fit into a WebP file; {_MODEL} do")
    entries, texts = b"", b""
    start = 8 + 2 + 12 * len(tags) + 4
    for name in sorted(tags, key=numbers.__getitem__):
        text = f"{name}:{tags[name]}".encode() + b"\0"
        where = struct.pack("<I", start + len(texts)) if len(text) > 4 else text.ljust(4, b"\0")
        entries += struct.pack("<HHI", numbers[name], _ASCII, len(text)) + where
        if len(text) > 4:
            texts += text + b"\0" * (len(text) % 2)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + texts


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _uint24(number: int) -> bytes:
    return struct.pack("<I", number)[:3]
