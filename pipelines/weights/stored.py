"""Tensors as weight files store them: where each one lies, and how its bytes become numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from ..errors import ModelError

__all__ = ["NUMBERS", "Files", "Source", "StoredTensor", "read_header", "read_metadata"]

# The dtypes that parameters of a network can have, as safetensors calls them.
NUMBERS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
_ITEM_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2}  # all others: 1


class Files:
    """Memory-mapped weight files, opened once each. `device` is where what must be computed is computed."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._open: dict[Path, Any] = {}
        self._mapped: dict[Path, Any] = {}

    def __enter__(self) -> Files:
        return self

    def __exit__(self, *exc: object) -> None:
        self._open.clear()
        self._mapped.clear()  # tensors made from it keep their file mapped

    def read(self, file: Path, key: str) -> Tensor:
        """A tensor of a safetensors file, as stored, on the CPU. Raises ModelError naming file and key."""
        try:
            if file not in self._open:
                self._open[file] = safe_open(file, framework="pt")
            tensor: Tensor = self._open[file].get_tensor(key)
        except Exception as error:  # safetensors raises its own type, OSError or RuntimeError
            raise ModelError(f"{file}: cannot read {key}: {error}") from error
        return tensor

    def raw(self, file: Path, offset: int, size_bytes: int) -> Tensor:
        """Bytes of any file, uint8, on the CPU: memory-mapped. Raises ModelError naming the file.

        The file must reach that far; who read its header has seen to that.
        """
        try:
            if file not in self._mapped:
                # Copy on write: torch has no read-only tensors, and nothing must ever reach the file.
                self._mapped[file] = np.memmap(file, dtype=np.uint8, mode="c")
        except (OSError, ValueError) as error:
            raise ModelError(f"{file}: cannot be read: {error}") from error
        return torch.from_numpy(self._mapped[file][offset : offset + size_bytes])


class Source(Protocol):
    """Where one tensor of a network is stored, and how it is read. Frozen: equal sources read equal."""

    @property
    def file(self) -> Path: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def stored_bytes(self) -> int:
        """What it takes in the file."""

    def read(self, files: Files) -> Tensor:
        """The numbers, in `shape`: memory-mapped where nothing has to be computed."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that is stored as the numbers it is. `dtype` is the file's own name for it, such as BF16."""

    file: Path
    key: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def stored_bytes(self) -> int:
        return math.prod(self.shape) * _ITEM_BYTES.get(self.dtype, 1)

    def read(self, files: Files) -> Tensor:
        return files.read(self.file, self.key)


def read_header(file: Path) -> dict[str, StoredTensor]:
    """Every tensor of a safetensors file by its key. Reads no tensor data.

    Raises ModelError naming the file when it is not a readable safetensors file.
    """
    found: dict[str, StoredTensor] = {}
    try:
        with safe_open(file, framework="pt") as opened:
            for key in opened.keys():  # noqa: SIM118  safe_open is not a mapping
                view = opened.get_slice(key)
                found[key] = StoredTensor(file, key, tuple(view.get_shape()), str(view.get_dtype()))
    except Exception as error:  # safetensors raises its own type, OSError or RuntimeError
        raise ModelError(f"{file}: not a readable safetensors file: {error}") from error
    return found


def read_metadata(file: Path) -> dict[str, str]:
    """The free text beside the tensors of a safetensors file. Raises ModelError naming the file."""
    try:
        with safe_open(file, framework="pt") as opened:
            return dict(opened.metadata() or {})
    except Exception as error:  # safetensors raises its own type, OSError or RuntimeError
        raise ModelError(f"{file}: not a readable safetensors file: {error}") from error
