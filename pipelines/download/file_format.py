"""The two formats of weight files that are fetched, and how each is told from a page, a zip or a pickle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["GGUF", "HEAD_BYTES", "SAFETENSORS", "FileFormat", "format_of"]

HEAD_BYTES = 9  # what `begins` is given
_LONGEST_HEADER = 100 * 10**6  # bytes; what the safetensors library itself accepts


@dataclass(frozen=True)
class FileFormat:
    """begins:  whether a file of `total` bytes (None: unknown) can begin with these bytes.
    objection: what is wrong with a whole file, or None.
    """

    name: str
    begins: Callable[[bytes, int | None], bool]
    objection: Callable[[Path], str | None]


def format_of(name: str) -> FileFormat:
    """By the ending of the file's name."""
    return GGUF if name.lower().endswith(".gguf") else SAFETENSORS


def _begins_safetensors(head: bytes, total: int | None) -> bool:
    length = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and length <= min(_LONGEST_HEADER, (total or _LONGEST_HEADER + 8) - 8)


def _safetensors_objection(file: Path) -> str | None:
    """The safetensors library looks at every offset; it reads no tensor."""
    from safetensors import safe_open

    try:
        with safe_open(file, framework="np") as opened:
            empty = not list(opened.keys())
    except Exception as error:  # a type of its own, OSError or RuntimeError
        return f"is no sound safetensors file: {error}"
    return "is a safetensors file without any tensor" if empty else None


def _begins_gguf(head: bytes, total: int | None) -> bool:
    del total
    return head[:4] == b"GGUF" and int.from_bytes(head[4:8], "little") in (2, 3)  # ggml/docs/gguf.md


SAFETENSORS = FileFormat("safetensors", _begins_safetensors, _safetensors_objection)
# Whoever fetches one knows its hash; reading its header belongs to who loads it.
GGUF = FileFormat("GGUF", _begins_gguf, lambda _: None)
