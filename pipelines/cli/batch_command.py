"""`wan-duet batch`: runs many requests, each once."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RequestError
from ..request.flags import add_flags, values_of_flags
from .request_flags import add_model_flags, with_flags
from .run_flags import add_run_flags, showing_residency, worker_of
from .subcommands import add_command, add_group

if TYPE_CHECKING:
    from ..fleet.batch_run import BatchResult
    from ..fleet.row_journal import JournalRow

__all__ = ["RowLines", "add_batch_commands"]


def add_batch_commands(commands: Any, kind: str) -> None:
    """Add `batch run`, with the flags of `kind`."""
    batch = add_group(commands, "batch", "run many requests, each once")
    text = "run many requests; after a stop, a failure or a crash, the same command goes on"
    run = add_command(batch, "run", _run, text)
    run.add_argument(
        "rows",
        type=Path,
        metavar="REQUESTS.jsonl|PROMPTS.txt|FOLDER",
        help="one request a line, a JSON object; one prompt a line; or a folder with one request in each "
        ".json file. A request may have kind and id (the name of its files)",
    )
    run.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="folder of results and journal"
    )
    run.add_argument(
        "--keep-going", action="store_true", help="go on with the next row when one fails; else stop there"
    )
    add_run_flags(run)
    add_model_flags(run)
    add_flags(run, kind, "A flag overrides that field of every row.")


def _run(options: argparse.Namespace) -> int:
    """Run the rows. Returns 1 if one has failed."""
    from ..fleet.batch_folder import BatchFolder
    from ..fleet.batch_rows import read_rows
    from ..fleet.batch_run import run_batch
    from ..fleet.local_place import LocalPlace
    from ..fleet.manifest import MANIFEST
    from ..fleet.row_source import holds_prompts

    if holds_prompts(options.rows) and "prompt" in values_of_flags(options):
        found = f"given beside the prompts of {options.rows.name}"
        raise RequestError.of("--prompt", found, "give one of the two")
    with showing_residency():
        worker = worker_of(options, keeps=True)
        place = LocalPlace(worker)
        fill = partial(with_flags, options, family=worker.model.family)
        rows, problems = read_rows(options.rows, options.kind, fill)
        folder = BatchFolder(options.output)
        result = run_batch(
            rows,
            folder,
            [place],
            RowLines("file" if options.rows.is_dir() else "line"),
            settings=place.settings(),
            problems=problems,
            keep_going=options.keep_going,
        )
    _print_result(result, folder.path / MANIFEST, as_json=options.json)
    return 1 if result.failed else 0


@dataclass(frozen=True)
class RowLines:
    """Prints a line on stderr when a row begins and when it ends. unit: what holds a row, line or file."""

    unit: str = "line"

    def resumed(self, done: int, rows: int) -> None:
        if done:
            _say(f"{done} of {rows} rows are done already")

    def begun(self, position: int, rows: int, row: JournalRow, left_s: float | None) -> None:
        left = "" if left_s is None else f"; about {_duration(left_s)} left"
        _say(f"row {position} of {rows}: {row.name}, {self.unit} {row.line}{left}")

    def ended(self, row: JournalRow) -> None:
        _say(f"{row.name}: {row.file}" if row.state == "done" else f"{row.name} {row.state}: {row.error}")


def _print_result(result: BatchResult, manifest: Path, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({**vars(result), "manifest": str(manifest)}))
        return
    print(manifest)
    waiting = f", {result.waiting} waiting: the same command goes on" if result.waiting else ""
    _say(f"{result.done} done, {result.failed} failed{waiting}")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
