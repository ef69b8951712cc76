"""Files that a request names travel to another machine by their content.

On the way a path is written as `content:SHA256/NAME`. The other machine keeps what it was sent, so that a
LoRA travels once.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import MediaError
from ..files.on_disk import discard, move_into_place
from ..request.field_rows import is_content_or_address, is_media, with_texts
from ..request.lora_weight import place_of
from ..video.local_file import any_file
from ..weights.lora.find import LoraSources

__all__ = [
    "PIECE_BYTES",
    "ContentFolder",
    "TravellingFile",
    "pieces_of",
    "travelling",
    "whole_sha256",
    "with_paths",
]

PIECE_BYTES = 8 << 20  # of one message: no node needs memory for a whole file

_CONTENT = re.compile(r"content:([0-9a-f]{64})/([^/\\\0]{1,255})")


@dataclass(frozen=True)
class TravellingFile:
    """A file of this machine, and the hash of its content in hex."""

    path: Path
    sha256: str


def travelling(document: Mapping[str, Any]) -> tuple[dict[str, Any], list[TravellingFile]]:
    """Return the fields of a request with its files by content, and these files.

    Raises LoraError for a LoRA that is not there, MediaError for a file that cannot be read.
    """
    files: list[TravellingFile] = []

    def by_content(field: str, text: str) -> str:
        path = _path_of(field, text)
        if path is None:
            return text
        files.append(TravellingFile(path, whole_sha256(path)))
        return f"content:{files[-1].sha256}/{path.name}"

    return with_texts(document, by_content), files


def with_paths(document: Mapping[str, Any], folder: ContentFolder) -> dict[str, Any]:
    """Return the fields of a request with the paths of this machine for what has travelled."""

    def here(field: str, text: str) -> str:
        found = _CONTENT.fullmatch(text) if _names_file(field) else None
        return text if found is None else str(folder.place(found[1], found[2]))

    return with_texts(document, here)


def pieces_of(path: Path) -> Iterator[bytes]:
    """Yield the content of a file in pieces. An empty file has one."""
    with path.open("rb") as stream:
        yield stream.read(PIECE_BYTES)
        while piece := stream.read(PIECE_BYTES):
            yield piece


class ContentFolder:
    """A folder of files by their content. A file in it is whole."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def place(self, sha256: str, name: str) -> Path:
        """Return where a file is, or will be. Raises ValueError for what is no hash or no name."""
        if not _CONTENT.fullmatch(f"content:{sha256}/{name}") or name in (".", ".."):
            raise ValueError(f"{sha256[:80]!r}/{name[:80]!r} is no file by content")
        return self.path / sha256 / name

    def holds(self, sha256: str, name: str) -> bool:
        return self.place(sha256, name).is_file()

    def take(self, sha256: str, name: str, number: int, piece: bytes, *, last: bool) -> None:
        """Append a piece of a file; the last one puts it into place. number: of the piece, from 0.

        Raises MediaError if the whole is not what was announced, OSError.
        """
        place = self.place(sha256, name)
        part = place.with_name(f".{os.getpid()}.part")
        place.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab" if number else "wb") as stream:
            stream.write(piece)
        if not last:
            return
        if whole_sha256(part) != sha256:
            discard(part)
            raise MediaError(f"{name}: arrived damaged; run it again")
        move_into_place(part, place)


def _names_file(field: str) -> bool:
    return field == "path" or is_media(field)


def _path_of(field: str, text: str) -> Path | None:
    """Return the file of this machine that a field names, or None."""
    if field == "path":
        return LoraSources().find(text) if place_of(text) == "file" else None
    if not is_media(field) or is_content_or_address(text):
        return None
    path = any_file(text, field)
    if not path.is_file():
        raise MediaError(f"{field}: {text[:200]} is not a file here; give the path of one")
    return path


def whole_sha256(path: Path) -> str:
    """Return the hash of a whole file: what others are sent must be exactly that."""
    digest = hashlib.sha256()
    for piece in pieces_of(path):
        digest.update(piece)
    return digest.hexdigest()
