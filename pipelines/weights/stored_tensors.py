"""Tensors as stored in weight files: their offsets, and how their bytes are read as numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from ..errors import ModelError

__all__ = [
    "NUMBERS",
    "SAFETENSORS",
    "Files",
    "Source",
    "StoredTensor",
    "TensorSource",
    "is_safetensors",
    "read_header",
    "read_header_and_metadata",
]

SAFETENSORS = (".safetensors", ".sft")  # in any case

# As safetensors calls them. The 4- and 6-bit floats that it also knows have no dtype of their own in torch.
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E8M0": torch.uint8,  # exponents of two as bytes: torch has had a dtype for them since 2.7 only
}
# What parameters of a network can have.
NUMBERS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
_LARGEST_HEADER = 16 * 2**20  # bytes; that of the A14B has 0.1 MiB, and a LoRA's training log a few MiB


class Files:
    """Memory-mapped weight files. `device` is where tensors are computed.

    Each tensor is mapped separately. Linux refuses to map a file as a whole, as safetensors does for torch,
    if it is larger than the memory.

    finite: tensors that were checked and have no NaN or Inf. Each is checked once, even if read several
            times.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.finite: set[StoredTensor] = set()
        self._headers: dict[Path, dict[str, _Place]] = {}

    def __enter__(self) -> Files:
        return self

    def __exit__(self, *exc: object) -> None:
        self._headers.clear()

    def read(self, file: Path, key: str) -> Tensor:
        """Return a tensor of a safetensors file, as stored, on the CPU.

        Raises ModelError naming file and key.
        """
        return self._tensor(file, key, self.raw)

    def mapped(self, file: Path, key: str) -> Tensor:
        """Return a tensor as `read` does, but always on the CPU, even if `read` copies to a device."""
        return self._tensor(file, key, lambda *place: Files.raw(self, *place))

    def _tensor(self, file: Path, key: str, read: Callable[[Path, int, int], Tensor]) -> Tensor:
        if file not in self._headers:
            self._headers[file] = _read(file)[0]
        place = self._headers[file].get(key)
        dtype = _DTYPES.get(place.dtype) if place else None
        if place is None or dtype is None:
            found = f"stored as {place.dtype}" if place else "not in the file"
            raise ModelError(f"{file}: cannot read {key}: it is {found}")
        if place.size_bytes != math.prod(place.shape) * dtype.itemsize:
            raise ModelError(
                f"{file}: cannot read {key}: {place.size_bytes} bytes do not match shape {place.shape}"
            )
        raw = read(file, place.offset, place.size_bytes)
        aligned = raw if place.offset % dtype.itemsize == 0 else raw.clone()
        return aligned.view(dtype).reshape(place.shape)

    def raw(self, file: Path, offset: int, size_bytes: int) -> Tensor:
        """Return bytes of any file, uint8, on the CPU, memory-mapped.

        Raises ModelError that names the file.
        """
        if not size_bytes:
            return torch.empty(0, dtype=torch.uint8)  # nothing cannot be mapped
        try:
            # Copy on write: torch has no read-only tensors, and nothing must ever reach the file.
            return torch.from_numpy(np.memmap(file, np.uint8, "c", offset, (size_bytes,)))
        except (OSError, ValueError) as error:
            raise ModelError(f"{file}: cannot be read: {error}") from error


class Source(Protocol):
    """Where one tensor of a network is stored, and how it is read.

    Frozen: equal sources read equal tensors.
    """

    @property
    def file(self) -> Path: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def stored_bytes(self) -> int:
        """The bytes of the tensor in the file."""

    def read(self, files: Files) -> Tensor:
        """Return the numbers, in `shape`; memory-mapped if nothing has to be computed."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that is stored as plain numbers. `dtype` is the file's own name for it, such as BF16."""

    file: Path
    key: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def stored_bytes(self) -> int:
        known = _DTYPES.get(self.dtype)
        return math.prod(self.shape) * (known.itemsize if known else 1)

    def read(self, files: Files) -> Tensor:
        return files.read(self.file, self.key)


def is_safetensors(file: Path) -> bool:
    """Return whether the name of a file says that it is one, in any case: `a.SAFETENSORS`, `a.sft`."""
    return file.suffix.lower() in SAFETENSORS


def read_header(file: Path) -> dict[str, StoredTensor]:
    """Return every tensor of a safetensors file by its key, without reading tensor data.

    Raises ModelError that names the file if it is not a readable safetensors file.
    """
    return read_header_and_metadata(file)[0]


def read_header_and_metadata(file: Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """Return what `read_header` does, and the metadata of the file. Raises as `read_header`."""
    places, metadata = _read(file)
    return {key: StoredTensor(file, key, place.shape, place.dtype) for key, place in places.items()}, metadata


class _Place(NamedTuple):
    """The position of a tensor in its file; `offset` counts from the start of the file."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    size_bytes: int


def _read(file: Path) -> tuple[dict[str, _Place], dict[str, str]]:
    """Return the positions of all tensors and the metadata, after safetensors has validated the file."""
    try:
        with file.open("rb") as stream:
            start = stream.read(8)
            size = int.from_bytes(start, "little")
            if size > _LARGEST_HEADER:
                raise ValueError(_text_in_place(start) or f"its header has {size} bytes")
            with safe_open(file, framework="np"):
                header = json.loads(stream.read(size))
    except Exception as error:  # safetensors raises its own type, OSError or RuntimeError
        raise ModelError(f"{file}: not a readable safetensors file: {error}") from error
    metadata = header.pop("__metadata__", None) or {}
    places = {}
    for key, entry in header.items():
        start, end = entry["data_offsets"]
        places[key] = _Place(entry["dtype"], tuple(entry["shape"]), 8 + size + start, end - start)
    return places, metadata


def _text_in_place(start: bytes) -> str:
    """Return what a failed download left in place of a file, from its first 8 bytes; empty if unknown."""
    if start == b"version ":
        return "it is a pointer of Git LFS; get the file itself with `git lfs pull`"
    return "it is a web page; download the file itself" if start.lstrip().startswith(b"<") else ""


@dataclass(frozen=True, eq=False)
class TensorSource:
    """A `Source` that is a tensor already. file: stands in errors where a file's name would."""

    tensor: Tensor
    file: Path

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    @property
    def stored_bytes(self) -> int:
        return self.tensor.nbytes

    def read(self, files: Files) -> Tensor:
        del files
        return self.tensor.detach()
