"""The LoRA files of this ComfyUI: those it lists, the embedded ones, and where downloads are kept."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import folder_paths

from ..pipelines.embedded.toy_model import embedded_loras
from ..pipelines.errors import LoraError, RequestError, WanDuetError
from ..pipelines.files.moved_file import moved_to
from ..pipelines.request.lora_weight import place_of
from ..pipelines.weights.lora.find import LoraSources
from .listing import FileChoices, stamp
from .lora_choice import NONE, files_in_rows

__all__ = [
    "listed_lora",
    "lora_choices",
    "lora_sources",
    "missing_in_rows",
    "stamps",
    "stamps_of_rows",
]

# Among the LoRAs, so that every loader lists what was downloaded, and users see what they may delete.
_DOWNLOADS = "wan_duet_downloads"


def lora_choices() -> FileChoices:
    """Return the choices of the widgets: none, the embedded LoRAs, and the files below models/loras."""
    files = [
        name
        for name in folder_paths.get_filename_list("loras")
        if name.lower().endswith((".safetensors", ".sft"))
    ]
    advice = "models/loras; put it there and press R, or choose another"
    return FileChoices([NONE, *embedded_loras(), *files], advice)


def lora_sources(*, online: bool = True) -> LoraSources:
    """Return the places of LoRA files. online: also download addresses; False looks only on the disk."""
    from ..pipelines.download.downloads import Downloads

    kept = Path(folder_paths.models_dir) / "loras" / _DOWNLOADS
    return LoraSources(
        [Path(folder) for folder in folder_paths.get_folder_paths("loras")],
        embedded_loras(),
        Downloads.into(kept) if online else None,
    )


def listed_lora(name: str) -> Path:
    """Return the file of a listed name. Raises LoraError for any other name."""
    problem = _problem(name, lora_choices()) if name not in ("", NONE) else "no LoRA is named"
    if problem:
        raise LoraError(problem)
    return lora_sources(online=False).find(name)


def missing_in_rows(rows: str) -> str | None:
    """Return the problem of the first row whose file is missing, with its number; None if all exist."""
    try:
        files = files_in_rows(rows)
    except RequestError as error:
        return str(error)
    listed = lora_choices()
    problems = ((where, _problem(file, listed)) for where, file in files.items())
    return next((f"{where}: {problem}" for where, problem in problems if problem), None)


def _problem(name: str, listed: FileChoices) -> str | None:
    if name in listed:
        return None
    if place_of(name) == "embedded":
        return f"{name} is no LoRA of the embedded model; choose another, or install the pack again"
    return (
        f"{name} is not in models/loras; put it there and press R, or choose another{moved_to(name, listed)}"
    )


def stamps(names: Iterable[str | None]) -> list[object]:
    """Return values that change when one of these files changes. None for an address or a missing file."""
    sources = lora_sources(online=False)
    return [_stamp(name, sources) for name in names if name not in (None, "", NONE)]


def stamps_of_rows(rows: str) -> list[object]:
    """Return `stamps` of the files of a table. Empty if it cannot be read; execute reports that."""
    try:
        return stamps(files_in_rows(rows).values())
    except RequestError:
        return []


def _stamp(name: str, sources: LoraSources) -> object:
    try:
        return stamp(sources.find(name))
    except WanDuetError:
        return None  # an address, or missing; execute reports that
