"""Reads `.pth` files of the official Wan repositories, which are pickles: only where the user allows it.

A pickle can run any code when it is opened. Here torch rebuilds tensors and nothing else (`weights_only`),
from an archive that cannot grow while it is read. Its tensors lie in it whole.
"""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from ..device.late_torch import torch
from ..errors import ModelError
from .stored_tensors import Source, TensorSource

if TYPE_CHECKING:
    pass

__all__ = ["read_pickle"]

_MOST_BYTES = 16 * 2**30  # models_t5_umt5-xxl-enc-bf16.pth, the largest, has 11.4 GB
_MOST_RECORDS = 65_536
_MOST_PICKLE = 16 * 2**20  # bytes of the pickle itself: names and shapes
_SAFE_TORCH = (2, 6)  # before it weights_only could be deceived: CVE-2025-32434
_INSTEAD = "use the .safetensors version of this file"


def read_pickle(file: Path, *, most_bytes: int = _MOST_BYTES) -> dict[str, Source]:
    """Return the tensors of a `.pth` file by their keys; their numbers stay in the file.

    Raises ModelError that names the file if it is too large, no archive of torch, or holds anything but float
    tensors.
    """
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < _SAFE_TORCH:
        raise ModelError(
            f"{file}: torch {torch.__version__} cannot open it safely; torch 2.6 can, or {_INSTEAD}"
        )
    _require_plain_archive(file, most_bytes)
    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # pickle's, zipfile's and torch's own
        reason = str(error).partition("\n")[0]
        raise ModelError(f"{file}: cannot be opened as weights alone: {reason}; {_INSTEAD}") from error
    if not isinstance(content, dict) or not content:
        raise ModelError(
            f"{file}: holds a {type(content).__name__}; a table of tensors is needed; {_INSTEAD}"
        )
    for key, value in content.items():
        if not isinstance(key, str) or not _is_plain(value):
            raise ModelError(f"{file}: {str(key)[:100]} is not a plain float tensor; {_INSTEAD}")
    return {key: TensorSource(value, file) for key, value in content.items()}


def _require_plain_archive(file: Path, most_bytes: int) -> None:
    """Raise ModelError unless the file is an archive without compression, of at most `most_bytes`."""
    if not file.is_file():
        raise ModelError(f"{file}: not found")
    size = file.stat().st_size
    if size > most_bytes:
        raise ModelError(f"{file}: has {size} bytes, more than {most_bytes}; {_INSTEAD}")
    try:
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
    except (OSError, ValueError, RuntimeError, struct.error, zipfile.BadZipFile) as error:  # of a damaged one
        raise ModelError(f"{file}: not an archive of torch: {error}; {_INSTEAD}") from error
    pickled = sum(record.file_size for record in records if record.filename.endswith(".pkl"))
    grows = any(record.compress_type != zipfile.ZIP_STORED for record in records)
    if grows or sum(record.file_size for record in records) > size or len(records) > _MOST_RECORDS:
        raise ModelError(f"{file}: is compressed or has too many records, unlike torch's files; {_INSTEAD}")
    if pickled > _MOST_PICKLE:
        raise ModelError(f"{file}: its pickle has {pickled} bytes, more than {_MOST_PICKLE}; {_INSTEAD}")


def _is_plain(value: object) -> bool:
    """Return whether this is a float tensor whose numbers lie one after another, each of its own."""
    return (
        isinstance(value, torch.Tensor)
        and value.layout is torch.strided
        and value.is_floating_point()
        and value.is_contiguous()
    )
