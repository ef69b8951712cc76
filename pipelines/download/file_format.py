"""The two formats of weight files that are downloaded, and how each is recognised by its first bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["GGUF", "HEAD_BYTES", "SAFETENSORS", "FileFormat", "format_of"]

HEAD_BYTES = 9  # what `begins` is given
_LONGEST_HEADER = 100 * 10**6  # bytes; what the safetensors library itself accepts


@dataclass(frozen=True)
class FileFormat:
    """One format.

    begins:    returns whether a file of `total` bytes (None: unknown) can begin with these bytes.
    objection: returns what is wrong with a complete file, or None.
    """

    name: str
    begins: Callable[[bytes, int | None], bool]
    objection: Callable[[Path], str | None]


def format_of(name: str) -> FileFormat:
    """Return the format by the suffix of the file name."""
    return GGUF if name.lower().endswith(".gguf") else SAFETENSORS


def _begins_safetensors(head: bytes, total: int | None) -> bool:
    length = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and length <= min(_LONGEST_HEADER, (total or _LONGEST_HEADER + 8) - 8)


def _safetensors_objection(file: Path) -> str | None:
    """Check the header and all offsets with the safetensors library, without reading a tensor."""
    from safetensors import safe_open

    try:
        with safe_open(file, framework="np") as opened:
            empty = not list(opened.keys())
    except Exception as error:  # a type of its own, OSError or RuntimeError
        return f"is not a valid safetensors file: {error}"
    return "is a safetensors file without tensors" if empty else None


def _begins_gguf(head: bytes, total: int | None) -> bool:
    del total
    return head[:4] == b"GGUF" and int.from_bytes(head[4:8], "little") in (2, 3)  # ggml/docs/gguf.md


SAFETENSORS = FileFormat("safetensors", _begins_safetensors, _safetensors_objection)
# A GGUF file is downloaded only with a known hash, so its header is read later, by the loader.
GGUF = FileFormat("GGUF", _begins_gguf, lambda _: None)
