"""Reads the header of a weight file of any container: its tensors by the keys in the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ModelError
from .folder import shards_of, weight_files
from .gguf_file import read_gguf
from .pickled_file import read_pickle
from .quantised_layers import read_safetensors
from .stored_tensors import SAFETENSORS, Source

__all__ = ["SUFFIXES", "Checkpoint", "read_checkpoint"]

SUFFIXES = (*SAFETENSORS, ".gguf")
_PICKLES = {".pth", ".pt", ".ckpt", ".bin", ".pkl"}


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of one file, or of all shards in a folder. `path` is that file or folder.

    architecture: the one that a GGUF file states, such as "wan"; empty for other files.
    """

    path: Path
    tensors: Mapping[str, Source] = field(repr=False)
    architecture: str = ""


def read_checkpoint(path: Path, *, open_pickles: bool = False) -> Checkpoint:
    """Read the header of a file with one of SUFFIXES, or of all shards in a folder, without tensor data.

    A file that is a shard stands for all of them.

    open_pickles: read a .pth file too; the user has allowed it.

    Raises ModelError that names the file if it is missing, damaged, of another type, or compressed in an
    unsupported format.
    """
    if path.is_dir():
        return Checkpoint(path, read_safetensors(weight_files(path)))
    if open_pickles and path.suffix.lower() == ".pth":
        return Checkpoint(path, read_pickle(path))
    if path.suffix.lower() in _PICKLES:
        raise ModelError(
            f"{path}: is a pickle, which can run any code when it is opened; use the .safetensors or .gguf "
            "version of this model. The README says how to allow the .pth files of a VAE or UMT5"
        )
    if path.name.lower().endswith(".index.json"):
        raise ModelError(
            f"{path}: is the index of shards; give their folder {path.parent}, or the first of them"
        )
    if path.suffix.lower() not in SUFFIXES:
        raise ModelError(f"{path}: not a weight file; give a {' or '.join(SUFFIXES)} file")
    if not path.is_file():
        raise ModelError(f"{path}: not found")
    if path.suffix.lower() == ".gguf":
        tensors, metadata = read_gguf(path)
        return Checkpoint(path, tensors, str(metadata.get("general.architecture") or ""))
    return Checkpoint(path, read_safetensors(shards_of(path)))
