"""Reads what weight files say of themselves, so that distilled ones are known under any file name.

Nothing is guessed from tensors: only titles in headers, the origin in a configuration, and published hashes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..model_files.catalogue import published_as
from ..request.distilled import distilled_by_name
from ..weights.folder import read_json
from ..weights.gguf_file import read_gguf_metadata
from ..weights.stored_tensors import is_safetensors, read_header_and_metadata

__all__ = ["distilled_title", "titles_of"]

# kohya and musubi (ss_output_name), the Stability metadata standard, ai-toolkit (name), and the tool that
# cuts LoRAs out of FastVideo's weights (finetuned_model). Not ss_sd_model_name: a LoRA that was trained on a
# distilled model is not distilled.
_TITLES = ("modelspec.title", "ss_output_name", "name", "finetuned_model")
_GGUF_TITLES = ("general.name", "general.basename", "general.finetune")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_LONGEST = 80  # characters; a header can hold anything


def distilled_title(file: Path, metadata: Mapping[str, str]) -> str:
    """Return the title of a LoRA that calls it distilled; "" if its name does already, or nothing does."""
    if distilled_by_name(file.name):
        return ""
    titles = (*(_shown(metadata.get(name)) for name in _TITLES), published_as(file))
    return next((title for title in titles if distilled_by_name(title)), "")


def titles_of(file: Path) -> tuple[str, ...]:
    """Return the titles that a model file, or its folder in diffusers layout, states; none if unreadable."""
    try:
        status = file.stat()
    except OSError:
        return ()
    return _titles(file, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _titles(file: Path, _size_bytes: int, _mtime_ns: int) -> tuple[str, ...]:
    found: list[Any] = []
    with suppress(ModelError, OSError):
        if is_safetensors(file):
            _, metadata = read_header_and_metadata(file)
            found += [metadata.get(name) for name in _TITLES]
        elif file.suffix.lower() == ".gguf":
            facts = read_gguf_metadata(file, ())
            found += [facts.get(name) for name in _GGUF_TITLES]
    origin = _entry(file.with_name("config.json"), "_name_or_path")
    if isinstance(origin, str) and _REPOSITORY.fullmatch(origin):  # else somebody's own folder
        found.append(origin)
    if file.parent.name.startswith("transformer"):
        found.append(_entry(file.parent.parent / "model_index.json", "_class_name"))
    return tuple(dict.fromkeys(title for title in map(_shown, found) if title))


def _entry(file: Path, key: str) -> Any:
    """Return an entry of a JSON file. None if there is none: such files need not be there."""
    with suppress(ModelError):
        return read_json(file).get(key)
    return None


def _shown(title: Any) -> str:
    text = title if isinstance(title, str) else ""
    return "".join(letter for letter in text[:_LONGEST] if letter.isprintable())
