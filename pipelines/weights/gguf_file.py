"""Reads GGUF files: weights in blocks that share a scale, as written by llama.cpp and ComfyUI-GGUF.

The header is parsed here, so that a damaged one costs neither memory nor time. Rarer block formats are
dequantised by the package `gguf`, which is imported only for such a file. Layout: ggml/docs/gguf.md.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..device.late_torch import torch
from ..errors import ModelError
from .ggml_blocks import FORMATS, numbers_of
from .stored_tensors import Files, Source

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["GgufTensor", "read_gguf", "read_gguf_metadata"]

_Read = TypeVar("_Read")

_MAGIC, _VERSIONS = b"GGUF", (2, 3)
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_MAX_ENTRIES, _MAX_KEY, _MAX_DIMS = 65_536, 4096, 8
_MAX_HEADER = 64 * 2**20  # the largest real ones carry a vocabulary: some 10 MB
_ALIGNMENT = "general.alignment"
_SHAPE = "comfy.gguf.orig_shape."  # what ComfyUI-GGUF notes where it had to fold a tensor into rows of 256
_AS_IS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}  # torch's names


@dataclass(frozen=True)
class GgufTensor:
    """A tensor of a GGUF file.

    `kind` is a type of ggml such as Q4_K; `offset` counts from the start of the file.

    row_bytes: bytes of one row of blocks; rows are contiguous.
    """

    file: Path
    key: str
    shape: tuple[int, ...]
    kind: str
    offset: int
    row_bytes: int
    stored_bytes: int

    def read(self, files: Files) -> Tensor:
        raw = files.raw(self.file, self.offset, self.stored_bytes)
        if self.kind in _AS_IS:
            return raw.view(getattr(torch, _AS_IS[self.kind])).reshape(self.shape)
        if self.kind in FORMATS:
            return numbers_of(raw.to(files.device), self.kind).reshape(self.shape)
        gguf = _package()
        blocks = raw.cpu().numpy().reshape(-1, self.row_bytes)
        numbers = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[self.kind])
        return torch.from_numpy(numbers).reshape(self.shape)


def read_gguf(file: Path) -> tuple[dict[str, Source], dict[str, Any]]:
    """Return (tensors by key, metadata) of a GGUF file. Reads only its header, and skips long arrays.

    Raises ModelError that names the file if it is damaged, truncated, or has a type that cannot be read.
    """
    return _parsed(file, (), _Header.read)


def read_gguf_metadata(file: Path, lists: Collection[str]) -> dict[str, Any]:
    """Return the metadata of a GGUF file. Long arrays are None, except those named in `lists`.

    Raises ModelError that names the file if it is damaged.
    """
    return _parsed(file, lists, _Header.metadata)


def _parsed(file: Path, lists: Collection[str], read: Callable[[_Header], _Read]) -> _Read:
    try:
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return read(_Header(file, content, lists))
    except (struct.error, UnicodeDecodeError) as error:
        raise ModelError(f"{file}: a damaged GGUF file: {error}; download it again") from error
    except (OSError, ValueError) as error:  # mmap: an empty file is a ValueError
        raise ModelError(f"{file}: cannot be read as GGUF: {error}") from error


class _Header:
    """A cursor over a header. Every count is checked against the remaining bytes before it is used."""

    def __init__(self, file: Path, content: mmap.mmap, lists: Collection[str]) -> None:
        self._file, self._content, self._lists, self._at = file, content, lists, 0

    def read(self) -> tuple[dict[str, Source], dict[str, Any]]:
        tensor_count, metadata = self._start()
        infos = [self._info() for _ in range(tensor_count)]
        tensors = self._place(infos, metadata)
        return dict(tensors), metadata

    def metadata(self) -> dict[str, Any]:
        return self._start()[1]

    def _start(self) -> tuple[int, dict[str, Any]]:
        """Return the number of tensors, and the metadata."""
        if self._take(4) != _MAGIC:
            raise self._damaged("it does not start with the bytes GGUF")
        version = self._number("I")
        if version not in _VERSIONS:
            raise self._damaged(f"version {version}; versions 2 and 3 are supported")
        tensor_count, entry_count = self._number("Q"), self._number("Q")
        if max(tensor_count, entry_count) > _MAX_ENTRIES:
            raise self._damaged(f"it announces {tensor_count} tensors and {entry_count} metadata entries")
        return tensor_count, dict(self._entry() for _ in range(entry_count))

    def _entry(self) -> tuple[str, Any]:
        key = self._text(_MAX_KEY)
        return key, self._value(self._number("I"), whole=key in self._lists)

    def _value(self, kind: int, *, whole: bool) -> Any:
        if kind == _STRING:
            return self._text(_MAX_HEADER)
        if kind in _SCALARS:
            return self._number(_SCALARS[kind])
        if kind != _ARRAY:
            raise self._damaged(f"a metadata value has the unknown type {kind}")
        inner, count = self._number("I"), self._number("Q")
        if inner == _STRING:
            if whole:
                return [self._text(_MAX_KEY) for _ in range(count)]
            for _ in range(count):  # a vocabulary: walked over, not kept
                self._take(self._number("Q"))
            return None
        if inner not in _SCALARS:
            raise self._damaged(f"a metadata list has the unknown type {inner}")
        code = _SCALARS[inner]
        data = self._take(count * struct.calcsize(f"<{code}"))
        return list(struct.unpack(f"<{count}{code}", data)) if whole or count <= _MAX_DIMS else None

    def _info(self) -> tuple[str, tuple[int, ...], int, int]:
        """Return (key, shape in the order of torch, type, offset in the data)."""
        key = self._text(_MAX_KEY)
        dims = self._number("I")
        if dims > _MAX_DIMS:
            raise self._damaged(f"{key} has {dims} dimensions")
        shape = tuple(self._number("Q") for _ in range(dims))
        return key, shape[::-1], self._number("I"), self._number("Q")

    def _place(
        self, infos: list[tuple[str, tuple[int, ...], int, int]], metadata: dict[str, Any]
    ) -> Iterator[tuple[str, Source]]:
        alignment = metadata.get(_ALIGNMENT, 32)
        if not isinstance(alignment, int) or alignment < 8 or alignment & (alignment - 1):
            raise self._damaged(f"its data is aligned to {alignment} bytes")
        start = -(-self._at // alignment) * alignment
        end = 0
        seen: set[str] = set()
        for key, stored_shape, number, offset in sorted(infos, key=lambda info: info[3]):
            kind, block_numbers, block_bytes = _type(self._file, key, number)
            row = stored_shape[-1] if stored_shape else 1
            if row % block_numbers or 0 in stored_shape:
                raise self._damaged(
                    f"{key} ({kind}) has rows of {row} values, not a multiple of {block_numbers}"
                )
            size = math.prod(stored_shape) // block_numbers * block_bytes
            if key in seen or offset % alignment or offset < end:
                raise self._damaged(f"{key} overlaps another tensor, or occurs twice")
            end = offset + size
            if start + end > len(self._content):
                raise ModelError(
                    f"{self._file}: truncated: {key} ends at byte {start + end} of "
                    f"{len(self._content)}; download it again"
                )
            seen.add(key)
            shape = self._folded(key, stored_shape, metadata.get(_SHAPE + key))
            row_bytes = row // block_numbers * block_bytes
            yield key, GgufTensor(self._file, key, shape, kind, start + offset, row_bytes, size)

    def _folded(self, key: str, stored: tuple[int, ...], noted: Any) -> tuple[int, ...]:
        if noted is None:
            return stored
        if not isinstance(noted, list) or not all(isinstance(side, int) and side > 0 for side in noted):
            raise self._damaged(f"{key} has the noted shape {noted}")
        if math.prod(noted) != math.prod(stored):
            raise self._damaged(f"{key} has the noted shape {noted}, but is stored as {list(stored)}")
        return tuple(noted)

    def _take(self, size: int) -> bytes:
        end = self._at + size
        if size < 0 or end > min(len(self._content), _MAX_HEADER):
            raise self._damaged(f"its header needs {size} bytes at offset {self._at}")
        taken = self._content[self._at : end]
        self._at = end
        return taken

    def _number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self._take(struct.calcsize(f"<{code}")))[0]

    def _text(self, limit: int) -> str:
        size = self._number("Q")
        if size > limit:
            raise self._damaged(f"a string has {size} bytes")
        return self._take(size).decode("utf-8")

    def _damaged(self, what: str) -> ModelError:
        return ModelError(f"{self._file}: not a readable GGUF file: {what}; download it again")


def _type(file: Path, key: str, number: int) -> tuple[str, int, int]:
    """Return (name, numbers per block, bytes per block) of a type of ggml."""
    gguf = _package()
    try:
        kind = gguf.GGMLQuantizationType(number)
    except ValueError:
        kind = None
    if kind is None or (kind.name not in _AS_IS and not _readable(kind)):
        name = f"type {number}" if kind is None else kind.name
        raise ModelError(
            f"{file}: {key} is stored as {name}, which the package gguf cannot read; use another "
            "quantisation of this model, such as Q8_0 or Q4_K_M"
        )
    block_numbers, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    return kind.name, block_numbers, block_bytes


@cache
def _readable(kind: Any) -> bool:
    """Return whether the package can dequantise this type, by trying one block of zeros."""
    gguf = _package()
    try:
        gguf.quants.dequantize(np.zeros((1, gguf.GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
    except NotImplementedError:
        return False
    return True


def _package() -> Any:
    try:
        import gguf
        import gguf.quants
    except ImportError:
        raise ModelError(
            "GGUF files need the Python package gguf; install it with: python -m pip install gguf"
        ) from None
    return gguf
