"""Tensors as stored in weight files: their offsets, and how their bytes are read as numbers."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from safetensors import safe_open

from ..device.late_torch import torch
from ..errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "NUMBERS",
    "SAFETENSORS",
    "Files",
    "Source",
    "StoredTensor",
    "TensorSource",
    "dtype_of_file",
    "is_safetensors",
    "read_header",
    "read_header_and_metadata",
]

SAFETENSORS = (".safetensors", ".sft")  # in any case

# Torch's name of a type, and its bytes, by what safetensors calls it. The 4- and 6-bit floats that it also
# knows have no dtype of their own in torch.
_DTYPES = {
    "F64": ("float64", 8),
    "F32": ("float32", 4),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "F8_E4M3": ("float8_e4m3fn", 1),
    "F8_E5M2": ("float8_e5m2", 1),
    "I64": ("int64", 8),
    "I32": ("int32", 4),
    "I16": ("int16", 2),
    "I8": ("int8", 1),
    "U8": ("uint8", 1),
    "BOOL": ("bool", 1),
    "F8_E8M0": ("uint8", 1),  # exponents of two as bytes: torch has had a dtype for them since 2.7 only
}
_BF16 = "bf16"
# How `struct` reads one number of them. It knows no 8-bit floats.
_STRUCTS = {
    "F64": "<d",
    "F32": "<f",
    "F16": "<e",
    "BF16": _BF16,
    "I64": "<q",
    "I32": "<i",
    "I16": "<h",
    "I8": "<b",
    "U8": "<B",
    "BOOL": "<?",
    "F8_E8M0": "<B",
}
# What parameters of a network can have.
NUMBERS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
_LARGEST_HEADER = 16 * 2**20  # bytes; that of the A14B has 0.1 MiB, and a LoRA's training log a few MiB


class Files:
    """Memory-mapped weight files. `device` is where tensors are computed; None for the CPU.

    Each tensor is mapped separately. Linux refuses to map a file as a whole, as safetensors does for torch,
    if it is larger than the memory.

    finite: tensors that were checked and have no NaN or Inf. Each is checked once, even if read several
            times.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self._device = device
        self.finite: set[StoredTensor] = set()
        self._headers: dict[Path, dict[str, _Place]] = {}

    def __enter__(self) -> Files:
        return self

    def __exit__(self, *exc: object) -> None:
        self._headers.clear()

    @property
    def device(self) -> torch.device:
        return self._device or torch.device("cpu")

    def read(self, file: Path, key: str) -> Tensor:
        """Return a tensor of a safetensors file, as stored, on the CPU.

        Raises ModelError naming file and key.
        """
        return self._tensor(file, key, self.raw)

    def mapped(self, file: Path, key: str) -> Tensor:
        """Return a tensor as `read` does, but always on the CPU, even if `read` copies to a device."""
        return self._tensor(file, key, lambda *place: Files.raw(self, *place))

    def content(self, file: Path, key: str) -> bytes:
        """Return the bytes of a small tensor of a safetensors file, without torch. Raises as `read`."""
        place = self._place(file, key)
        try:
            with file.open("rb") as stream:
                stream.seek(place.offset)
                return stream.read(place.size_bytes)
        except OSError as error:
            raise ModelError(f"{file}: cannot be read: {error}") from error

    def number(self, file: Path, key: str) -> float:
        """Return the only number of a tensor. Without torch, but for 8-bit floats. Raises as `read`."""
        kind, content = _STRUCTS.get(self._place(file, key).dtype), self.content(file, key)
        if kind is None:
            return float(self.read(file, key))
        if kind == _BF16:  # the high half of a float32
            kind, content = "<f", bytes(2) + content
        return float(struct.unpack(kind, content)[0])

    def _place(self, file: Path, key: str) -> _Place:
        if file not in self._headers:
            self._headers[file] = _read(file)[0]
        place = self._headers[file].get(key)
        if place is None or place.dtype not in _DTYPES:
            found = f"stored as {place.dtype}" if place else "not in the file"
            raise ModelError(f"{file}: cannot read {key}: it is {found}")
        if place.size_bytes != math.prod(place.shape) * _DTYPES[place.dtype][1]:
            raise ModelError(
                f"{file}: cannot read {key}: {place.size_bytes} bytes do not match shape {place.shape}"
            )
        return place

    def _tensor(self, file: Path, key: str, read: Callable[[Path, int, int], Tensor]) -> Tensor:
        place = self._place(file, key)
        name, item_bytes = _DTYPES[place.dtype]
        raw = read(file, place.offset, place.size_bytes)
        aligned = raw if place.offset % item_bytes == 0 else raw.clone()
        return aligned.view(getattr(torch, name)).reshape(place.shape)

    def raw(self, file: Path, offset: int, size_bytes: int) -> Tensor:
        """Return bytes of any file, uint8, on the CPU, memory-mapped.

        Raises ModelError that names the file.
        """
        if not size_bytes:
            return torch.empty(0, dtype=torch.uint8)  # nothing cannot be mapped
        import numpy as np

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
        _, size_bytes = _DTYPES.get(self.dtype, ("", 1))
        return math.prod(self.shape) * size_bytes

    def read(self, files: Files) -> Tensor:
        return files.read(self.file, self.key)


def dtype_of_file(name: str) -> torch.dtype | None:
    """Return the dtype in which torch reads numbers of a type of safetensors. None where it has none."""
    if name not in _DTYPES:
        return None
    dtype: torch.dtype = getattr(torch, _DTYPES[name][0])
    return dtype


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
