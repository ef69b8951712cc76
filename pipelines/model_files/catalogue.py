"""The published weight files that this pack was made for, as dated data: `model_files.json`.

url, folder and name are those of ComfyUI's own templates where those have the file (`source`), so that a
template of ours and one of core use the same file. size_bytes and sha256 are from `hash_source`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import urlsplit

from ..errors import RequestError
from ..plan.families import FAMILIES, default_family
from ..request import class_of

__all__ = [
    "AS_OF",
    "FOLDERS",
    "OWN_LIST",
    "Catalogue",
    "FileSet",
    "ModelFile",
    "published_as",
    "read_catalogue",
    "special_weights",
]

OWN_LIST = "model_files.json"  # beside the keys: the user's own entries

_DATA: Mapping[str, Any] = json.loads(
    Path(__file__).with_name("model_files.json").read_text(encoding="utf-8")
)
AS_OF: str = _DATA["as_of"]
FOLDERS = ("diffusion_models", "vae", "text_encoders", "clip_vision", "audio_encoders", "loras")
_OWN_FACTS = {"folder": str, "url": str, "size_bytes": int, "sha256": str}
_CHUNK = 2**22
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ModelFile:
    """One weight file. name: of the file itself. folder: below ComfyUI's models folder."""

    name: str
    folder: str
    url: str
    size_bytes: int
    sha256: str
    source: str = "your own list"
    hash_source: str = "your own list"

    @property
    def page(self) -> str:
        """Where a person reads about the file: the front page of its repository."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{'/'.join(parts.path.split('/')[:3])}"


@dataclass(frozen=True)
class FileSet:
    """All files that one family needs for a task, in one size. slots: {input of Load Model: file}."""

    family: str
    size: str
    slots: Mapping[str, ModelFile]
    loras: tuple[ModelFile, ...] = ()

    @property
    def files(self) -> tuple[ModelFile, ...]:
        return (*self.slots.values(), *self.loras)

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True)
class Catalogue:
    """The files by name. allow_loopback: the user's own list may name servers on this machine."""

    files: Mapping[str, ModelFile]
    allow_loopback: bool = False

    def named(self, names: Iterable[str]) -> list[ModelFile]:
        """The files of these names, each once, whatever folder stands before a name. Others are left out."""
        known = (self.files.get(PurePath(name.replace("\\", "/")).name) for name in names)
        return list(dict.fromkeys(file for file in known if file is not None))

    def sets(self, kind: str) -> dict[str, FileSet]:
        """{size: files} for a kind; those of its usual family first. Empty where none is published here, and
        for a kind that only a provider runs.

        Raises RequestError for an unknown kind.
        """
        if special_weights(kind) is not None or class_of(kind).remote_only:
            return {}
        task = class_of(kind).task
        usual = default_family(task).name
        found = [entry for entry in _DATA["sets"] if task in FAMILIES[entry["family"]].tasks]
        found.sort(key=lambda entry: entry["family"] != usual)
        loras = tuple(self.files[name] for name in _DATA["loras"].get(task, ()))
        return {_label(entry, usual): self._set(entry, loras) for entry in found}

    def choose(self, kind: str, size: str | None) -> FileSet:
        """The files of a kind in this size, or in the first one. Raises RequestError."""
        sets = self.sets(kind)
        if not sets:
            where = special_weights(kind)
            fix = "run it at its provider, with --on" if where is None else f"get {where}"
            raise RequestError.of("KIND", f"{kind} has no single files", fix)
        size = next(iter(sets)) if size is None else size
        if size not in sets:
            raise RequestError.of("--size", f"{size} is not listed for {kind}", f"give {' or '.join(sets)}")
        return sets[size]

    def _set(self, entry: Mapping[str, Any], loras: tuple[ModelFile, ...]) -> FileSet:
        slots = {slot: self.files[name] for slot, name in entry["files"].items()}
        return FileSet(entry["family"], entry["size"], slots, loras)


def special_weights(kind: str) -> str | None:
    """Which weights a kind needs that are no single files, and where they are; None for all other kinds."""
    place: str | None = _DATA["elsewhere"].get(class_of(kind).task)
    return place


def read_catalogue(folder: Path | None = None) -> Catalogue:
    """The published files, and those of the user's own list in `folder`, which win.

        {"files": {NAME: {"folder": "vae", "url": "https://...", "size_bytes": 1, "sha256": "..."}},
         "allow_loopback": false}

    Raises RequestError naming the entry that is wrong.
    """
    files = dict(_published())
    if folder is None:
        return Catalogue(files)
    file = folder / OWN_LIST
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Catalogue(files)
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError.of(str(file), f"cannot be read: {error}", "correct or delete it") from None
    if not isinstance(content, dict) or set(content) - {"files", "allow_loopback"}:
        raise RequestError.of(str(file), "not a list of files", "give files, and allow_loopback if needed")
    allow, own = content.get("allow_loopback", False), content.get("files", {})
    if not isinstance(allow, bool) or not isinstance(own, dict):
        raise RequestError.of(str(file), "files or allow_loopback has another type", "give a table, and true")
    files |= {name: _own_file(name, values, file) for name, values in own.items()}
    return Catalogue(files, allow)


def published_as(file: Path, known: Mapping[str, ModelFile] | None = None) -> str:
    """Return the name under which this very file was published, "" if it is none of the published ones.

    Its name does not count. It is read, once, only if its size is that of a published file.
    known: {name: file}; None for all that are published.
    """
    known = _published() if known is None else known
    try:
        status = file.stat()
    except OSError:
        return ""
    if not any(entry.size_bytes == status.st_size for entry in known.values()):
        return ""
    sha256 = _sha256(file, status.st_size, status.st_mtime_ns)
    return next((name for name, entry in known.items() if entry.sha256 == sha256), "")


@lru_cache(maxsize=16)
def _sha256(file: Path, _size_bytes: int, _mtime_ns: int) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@cache
def _published() -> Mapping[str, ModelFile]:
    return {name: ModelFile(name=name, **values) for name, values in _DATA["files"].items()}


def _own_file(name: str, values: Any, file: Path) -> ModelFile:
    where = f"{file}: {name[:100]}"
    if PurePath(name).name != name or "\\" in name or not name.endswith((".safetensors", ".gguf")):
        raise RequestError.of(
            where, "not the name of a .safetensors or .gguf file", "give one without a folder"
        )
    if not isinstance(values, dict) or set(values) != set(_OWN_FACTS):
        raise RequestError.of(where, "not a table of its facts", f"give {', '.join(_OWN_FACTS)}")
    for key, kind in _OWN_FACTS.items():
        if type(values[key]) is not kind:
            raise RequestError.of(f"{where}: {key}", f"got {values[key]!r}", f"give {kind.__name__}")
    if values["folder"] not in FOLDERS:
        raise RequestError.of(f"{where}: folder", f"got {values['folder']!r}", f"give {', '.join(FOLDERS)}")
    if values["size_bytes"] <= 0 or not _SHA256.fullmatch(values["sha256"]):
        raise RequestError.of(where, "size_bytes or sha256 is not one", "give bytes, and 64 hex digits")
    return ModelFile(name=name, **values)


def _label(entry: Mapping[str, str], usual: str) -> str:
    """How a size is called: by itself for the usual family of the kind, else with the family."""
    return entry["size"] if entry["family"] == usual else f"{entry['family']}-{entry['size']}"
