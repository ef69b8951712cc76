"""Converts the widgets of a LoRA node to `loras`: one LoRA or a pair, a JSON list, and the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..pipelines.errors import RequestError
from ..pipelines.request import read_list
from ..pipelines.request.lora_rows import NO_FILE as NONE
from ..pipelines.request.lora_rows import loras_of, read_rows
from .tasks import LORAS
from .widgets import fields_of

__all__ = ["NONE", "chosen_loras", "files_in_rows", "for_task"]


def chosen_loras(
    file: str,
    path: str,
    weight_name: str,
    scale: float,
    transformer: str,
    low_file: str = NONE,
    low_scale: float = 1.0,
    loras: str = "",
    rows: str = "",
) -> list[Any]:
    """Return the entries of the field `loras`: first of the widgets, then of the JSON list and the rows.

    With `low_file` two files are a pair: `file` or `path` for the high expert, `low_file` for the low one.
    Empty if nothing is chosen. Raises RequestError if two widgets choose the same thing.
    """
    path, weight_name = path.strip(), weight_name.strip()
    entries: list[Any] = []
    if file != NONE and path:
        raise RequestError.of(LORAS, "both file and path are given", "give one of the two")
    if weight_name and not path:
        raise RequestError.of(
            "weight_name", "given without path", "give the repository in path, or leave it out"
        )
    if file != NONE or path:
        if low_file != NONE and transformer != "high":
            raise RequestError.of(
                "transformer", f"{transformer}, beside a low_file", "choose high: the pair shares the experts"
            )
        entry = {"path": path or _portable(file), "scale": scale, "transformer": transformer}
        entries.append({**entry, "weight_name": weight_name} if weight_name else entry)
    if low_file != NONE:
        entries.append({"path": _portable(low_file), "scale": low_scale, "transformer": "low"})
    if loras.strip():
        entries += read_list(LORAS, loras)
    return entries + loras_of(read_rows(rows))


def files_in_rows(rows: str) -> dict[str, str]:
    """Return {"rows[NUMBER].file": name} of the rows that are on. Raises RequestError as `read_rows` does."""
    return {f"rows[{row.number}].file": row.file for row in read_rows(rows) if row.on}


def for_task(task: str, kind: str, entries: Sequence[Any]) -> list[Any]:
    """Return the entries, without `transformer` if the LoRAs of the task have no such field.

    Raises RequestError that names `kind` if only one expert was chosen for such a task.
    """
    known = fields_of(task).get(LORAS)
    if known is None or any(row.name == "transformer" for row in known.fields):
        return list(entries)
    if any(isinstance(entry, Mapping) and entry.get("transformer", "both") != "both" for entry in entries):
        raise RequestError.of(
            "transformer",
            f"{kind} has no choice of the expert",
            "choose both, which is what its LoRAs change; in rows, give high and low the same strength",
        )
    return [
        {name: value for name, value in entry.items() if name != "transformer"}
        if isinstance(entry, Mapping)
        else entry
        for entry in entries
    ]


def _portable(name: str) -> str:
    return name.replace("\\", "/")
