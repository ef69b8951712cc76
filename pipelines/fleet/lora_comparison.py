"""Compares the videos of a LoRA bench: a contact sheet, one video of all, and a table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..embedded.as_told import detector_scores
from ..embedded.toy_model import TOY, TOY_IMAGE
from ..errors import MediaError
from ..files.on_disk import write_whole
from ..loading.host_model import AnyModel
from ..progress import Progress
from ..request.report import aligned
from ..video.contact_sheet import LARGEST_SHEET, ROW_EDGES, contact_sheet
from ..video.grid_video import write_grid
from ..video.image import image_bytes, write_image
from ..video.likeness import likeness
from ..video.output import SUFFIXES
from ..video.probe import VideoFacts, probe
from ..video.read import read_frames
from .lora_bench import LoraBench
from .lora_cells import LoraCell

__all__ = ["LoraComparison", "compare"]

_SHEET_COLUMNS, _SHEET_WIDTH = 4, 160
_DRAWN = (TOY, TOY_IMAGE)  # what they draw is what the detector knows
_DIGITS = 4

_Scores = Mapping[str, float | None]


@dataclass(frozen=True)
class LoraComparison:
    """table: a row for each setting, with means over its videos; None where no video has a value."""

    table: Sequence[Mapping[str, Any]]
    sheet: Path
    grid: Path

    def lines(self) -> list[str]:
        """Return the table as text."""
        return aligned([list(self.table[0]), *(list(map(_text, row.values())) for row in self.table)])


def compare(bench: LoraBench, folder: Path, model: AnyModel, progress: Progress) -> LoraComparison:
    """Write sheet.png, grid.mp4, cells.json and table.csv into the folder of the videos.

    model: that of the videos; those of the embedded model are looked at by its detector too.

    Raises MediaError for a video that cannot be read, and what `progress.check` raises.
    """
    file_of = {cell.name: _video_of(cell, folder) for cell in bench.cells}
    scores = _scores(bench, file_of, progress, detects=model.family.name in _DRAWN)
    width = _sheet_width(probe(next(iter(file_of.values()))), len(file_of))
    sheet = contact_sheet(list(file_of.items()), _SHEET_COLUMNS, width, progress.check)
    write_image(folder / "sheet.png", image_bytes(sheet, "png", {}))
    by_setting = [[cell for cell in bench.cells if cell.setting == setting] for setting in bench.settings]
    write_grid([[file_of[cell.name] for cell in row] for row in by_setting], folder / "grid.mp4", progress)
    each = {cell.name: {**_of_cell(cell), **scores[cell.name]} for cell in bench.cells}
    write_whole(folder / "cells.json", json.dumps(each, indent=2))
    table = [_row(row, [scores[cell.name] for cell in row]) for row in by_setting]
    write_whole(folder / "table.csv", _csv(table))
    return LoraComparison(table, folder / "sheet.png", folder / "grid.mp4")


def _sheet_width(facts: VideoFacts, rows: int) -> int:
    """Return the width of a frame in the sheet: less than usual where all rows would not fit."""
    height = LARGEST_SHEET // rows - ROW_EDGES
    return max(1, min(_SHEET_WIDTH, height * facts.width // facts.height))


def _video_of(cell: LoraCell, folder: Path) -> Path:
    """Return the file of a cell, in the container that its request asks for."""
    file = next((file for suffix in SUFFIXES if (file := folder / f"{cell.name}{suffix}").is_file()), None)
    if file is None:
        raise MediaError(f"{folder / cell.name}: there is no video of this name; run the bench again")
    return file


def _scores(
    bench: LoraBench, file_of: Mapping[str, Path], progress: Progress, *, detects: bool
) -> dict[str, _Scores]:
    plain = {
        (cell.prompt, cell.seed): file_of[cell.name] for cell in bench.cells if cell.setting.path is None
    }
    progress.begin("comparing", len(bench.cells), "videos")
    found: dict[str, _Scores] = {}
    for number, cell in enumerate(bench.cells, 1):
        file = file_of[cell.name]
        alike = asdict(likeness(file, plain[cell.prompt, cell.seed], progress.check))
        prompt = bench.prompts[cell.prompt - 1]
        found[cell.name] = {**alike, **(detector_scores(read_frames(file), prompt) if detects else {})}
        progress.advance(number)
    return found


def _of_cell(cell: LoraCell) -> dict[str, Any]:
    return {**asdict(cell.setting), "prompt": cell.prompt, "seed": cell.seed}


def _row(cells: Sequence[LoraCell], scores: Sequence[_Scores]) -> dict[str, Any]:
    setting = cells[0].setting
    means = {name: _mean([one[name] for one in scores]) for name in scores[0]}
    return {
        "lora": setting.path or "none",
        "expert": setting.expert,
        "strength": setting.strength,
        **means,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), _DIGITS) if known else None


def _csv(table: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def _text(value: object) -> str:
    return "" if value is None else str(value)
