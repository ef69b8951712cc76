"""Compares the videos of a LoRA bench: a contact sheet, one video of all, and a table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..embedded.as_told import detector_scores
from ..embedded.toy_model import TOY, TOY_IMAGE
from ..errors import MediaError
from ..files.on_disk import write_whole
from ..loading.host_model import AnyModel
from ..progress import Progress
from ..request.report import aligned
from ..video.contact_sheet import LARGEST_SHEET, ROW_EDGES, drawn_sheet, sheet_places, thumbnail
from ..video.frame_stream import Frame
from ..video.grid_video import write_grid
from ..video.image import image_bytes, write_image
from ..video.likeness import LikenessMeter
from ..video.output import SUFFIXES
from ..video.probe import VideoFacts, probe
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
    by_setting = [[cell for cell in bench.cells if cell.setting == setting] for setting in bench.settings]
    first = probe(next(iter(file_of.values())))
    width = _sheet_width(first, len(file_of))
    detects = model.family.name in _DRAWN
    seen = {
        file_of[cell.name]: _Seen(cell, sheet_places(first.frames, _SHEET_COLUMNS), width, detects)
        for cell in bench.cells
    }
    plain: dict[tuple[int, int], Frame] = {}  # {(prompt, seed): the frame without a LoRA}, which comes first

    def show(file: Path, frame: Frame) -> None:
        one = seen[file]
        if one.cell.setting.path is None:
            plain[one.cell.prompt, one.cell.seed] = frame
        one.add(frame, plain[one.cell.prompt, one.cell.seed])

    progress.begin("comparing", first.frames, "frames")
    write_grid(
        [[file_of[cell.name] for cell in row] for row in by_setting], folder / "grid.mp4", progress, show
    )
    for file, one in seen.items():
        if one.frames != first.frames:
            raise MediaError(f"{file.name} has another number of frames than the first video")
    rows = [(name, seen[file].thumbnails) for name, file in file_of.items()]
    sheet = drawn_sheet(rows, _SHEET_COLUMNS, width)
    write_image(folder / "sheet.png", image_bytes(sheet, "png", {}))
    scores = {name: seen[file].scores(bench) for name, file in file_of.items()}
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


@dataclass
class _Seen:
    """What is seen of a video while it is read, once for the sheet, the grid and the table.

    wanted: the numbers of the frames of the sheet. clip: all frames, for the detector of the embedded model.
    """

    cell: LoraCell
    wanted: Container[int]
    width: int
    detects: bool
    frames: int = 0
    meter: LikenessMeter = field(default_factory=LikenessMeter)
    thumbnails: list[Image.Image] = field(default_factory=list)
    clip: list[Frame] = field(default_factory=list)

    def add(self, frame: Frame, plain: Frame) -> None:
        self.meter.add(frame, plain)
        if self.frames in self.wanted:
            self.thumbnails.append(thumbnail(frame, self.width))
        if self.detects:
            self.clip.append(frame)
        self.frames += 1

    def scores(self, bench: LoraBench) -> _Scores:
        alike = asdict(self.meter.result())
        return {
            **alike,
            **(detector_scores(self.clip, bench.prompts[self.cell.prompt - 1]) if self.detects else {}),
        }


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
