"""`wan-duet lora bench`: one video for each LoRA, expert, strength, prompt and seed, and how they compare."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import RequestError
from ..files.on_disk import write_whole
from ..request.kinds import class_of
from ..request.parse import read_json
from ..request.report import Finding, aligned
from .batch_lines import RowLines
from .request_flags import add_model_flags
from .run_flags import add_run_flags, showing_residency, worker_of
from .subcommands import add_command
from .terminal import TerminalProgress, print_findings

if TYPE_CHECKING:
    from ..fleet.lora_cells import LoraCell, LoraSetting
    from ..video.likeness import Likeness

__all__ = ["add_lora_bench"]

_EXPERTS = ("high", "low", "both")
_SHEET_COLUMNS, _SHEET_WIDTH = 4, 160
_PROMPTS_ONLY = ("prompt", "seed", "loras")


def add_lora_bench(verbs: Any) -> None:
    """Add `lora bench` to the verbs of `lora`."""
    text = (
        "make a video for each LoRA, expert, strength, prompt and seed, and one without a LoRA, to compare; "
        "after a stop the same command goes on"
    )
    bench = add_command(verbs, "bench", _bench, text)
    bench.add_argument("files", nargs="+", metavar="FILE", help="LoRA files, or toy/NAME")
    bench.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="folder of all results"
    )
    bench.add_argument(
        "--strengths", type=_numbers, default=[1.0], metavar="X,X,...", help="strengths; default: 1"
    )
    bench.add_argument(
        "--experts", type=_experts, default=["both"], metavar="high,low,both", help="default: both"
    )
    prompts = bench.add_mutually_exclusive_group(required=True)
    prompts.add_argument("--prompts", type=Path, metavar="FILE", help="a text file with one prompt a line")
    prompts.add_argument("--prompt", metavar="TEXT", help="one prompt")
    bench.add_argument("--seeds", type=int, default=1, metavar="N", help="how many seeds; default: 1")
    bench.add_argument("--seed", type=int, default=0, metavar="N", help="the first seed; default: 0")
    bench.add_argument(
        "--request", type=Path, metavar="REQUEST.json", help="all other fields, the same for every video"
    )
    add_run_flags(bench)
    add_model_flags(bench)


def _bench(options: argparse.Namespace) -> int:
    """Run the cells and compare them. Returns 1 if one has failed."""
    from ..fleet.batch_folder import BatchFolder
    from ..fleet.batch_run import run_batch
    from ..fleet.local_place import LocalPlace
    from ..fleet.lora_cells import cells_of, settings_of

    settings = settings_of(options.files, options.strengths, options.experts)
    if options.seeds < 1:
        raise RequestError.of("--seeds", f"got {options.seeds}", "give 1 or more")
    seeds = range(options.seed, options.seed + options.seeds)
    kind = class_of(options.kind)
    if "video_quality" not in kind.model_fields:
        raise RequestError.of("--kind", f"{options.kind} makes no video", "choose a kind that does")
    cells = cells_of(settings, kind.task, _values(options), _prompts(options), seeds)
    with showing_residency():
        worker = replace(worker_of(options, keeps=True), tell=_Once())
        place, folder = LocalPlace(worker), BatchFolder(options.output)
        rows = [cell.row for cell in cells]
        result = run_batch(rows, folder, [place], RowLines(), settings=place.settings())
    if result.failed or result.waiting:
        print(f"{result.done} of {len(cells)} videos are there; the same command goes on", file=sys.stderr)
        return 1
    table = _compared(cells, settings, options.output)
    if options.json:
        print(json.dumps({"table": table, "folder": str(options.output)}, indent=2))
    else:
        print("\n".join([*_lines(table), str(options.output)]))
    return 0


class _Once:
    """Prints each finding once: those of one video are those of the next."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def __call__(self, findings: Sequence[Finding]) -> None:
        new = [finding for finding in findings if finding.line() not in self._told]
        self._told.update(finding.line() for finding in new)
        print_findings(new)


def _values(options: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of --request. Raises RequestError for one that the bench decides."""
    if options.request is None:
        return {}
    try:
        values = read_json(options.request.read_bytes())
    except OSError as error:
        raise RequestError.of("--request", f"{options.request}: {error.strerror}", "give a file") from None
    decided = [name for name in _PROMPTS_ONLY if name in values]
    if decided:
        raise RequestError.of(
            "--request", f"has {', '.join(decided)}", "leave them out: the bench varies them"
        )
    return values


def _prompts(options: argparse.Namespace) -> list[str]:
    if options.prompts is None:
        return [options.prompt]
    try:
        lines = options.prompts.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError.of("--prompts", f"{options.prompts}: {error}", "give a text file") from None
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise RequestError.of("--prompts", f"{options.prompts} has no prompt", "write one prompt a line")
    return prompts


def _compared(
    cells: Sequence[LoraCell], settings: Sequence[LoraSetting], folder: Path
) -> list[dict[str, Any]]:
    """Write sheet.png, grid.mp4, cells.json and table.csv, and return the table."""
    from ..video.contact_sheet import contact_sheet
    from ..video.grid_video import write_grid
    from ..video.image import image_bytes, write_image
    from ..video.likeness import likeness

    progress = TerminalProgress(sys.stderr)
    file_of = {cell.name: folder / f"{cell.name}.mp4" for cell in cells}
    plain = {(cell.prompt, cell.seed): file_of[cell.name] for cell in cells if cell.setting.path is None}
    progress.begin("comparing", len(cells), "videos")
    found: dict[str, Likeness] = {}
    for number, cell in enumerate(cells, 1):
        found[cell.name] = likeness(file_of[cell.name], plain[cell.prompt, cell.seed], progress.check)
        progress.advance(number)
    sheet = contact_sheet(
        [(cell.name, file_of[cell.name]) for cell in cells], _SHEET_COLUMNS, _SHEET_WIDTH, progress.check
    )
    write_image(folder / "sheet.png", image_bytes(sheet, "png", {}))
    by_setting = [[cell for cell in cells if cell.setting == setting] for setting in settings]
    write_grid([[file_of[cell.name] for cell in row] for row in by_setting], folder / "grid.mp4", progress)
    each = {
        cell.name: {
            **asdict(cell.setting),
            "prompt": cell.prompt,
            "seed": cell.seed,
            **asdict(found[cell.name]),
        }
        for cell in cells
    }
    write_whole(folder / "cells.json", json.dumps(each, indent=2))
    table = [_row(row, [found[cell.name] for cell in row]) for row in by_setting]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    write_whole(folder / "table.csv", text.getvalue())
    return table


def _row(cells: Sequence[LoraCell], found: Sequence[Likeness]) -> dict[str, Any]:
    setting = cells[0].setting
    return {
        "lora": setting.path or "none",
        "expert": setting.expert,
        "strength": setting.strength,
        "ssim": round(float(np.mean([one.ssim for one in found])), 4),
        "motion": round(float(np.mean([one.motion for one in found])), 3),
    }


def _lines(table: Sequence[dict[str, Any]]) -> list[str]:
    return aligned([list(table[0]), *([str(value) for value in row.values()] for row in table)])


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} are no numbers; write 0.5,1") from None


def _experts(text: str) -> list[str]:
    experts = text.split(",")
    if not set(experts) <= set(_EXPERTS):
        raise argparse.ArgumentTypeError(f"{text!r} are no experts; give of {', '.join(_EXPERTS)}")
    return experts
