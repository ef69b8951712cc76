"""`wan-duet batch`: runs many requests, each once."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .request_flags import add_model_flags
from .run_flags import add_run_flags, showing_residency, worker_of
from .subcommands import add_command, add_group

if TYPE_CHECKING:
    from ..fleet.batch_run import BatchResult
    from ..fleet.row_journal import JournalRow

__all__ = ["RowLines", "add_batch_commands"]


def add_batch_commands(commands: Any) -> None:
    """Add `batch run`."""
    batch = add_group(commands, "batch", "run many requests, each once")
    text = "run the requests of a file; after a stop, a failure or a crash, the same command goes on"
    run = add_command(batch, "run", _run, text)
    run.add_argument(
        "rows",
        type=Path,
        metavar="REQUESTS.jsonl",
        help="one request a line, a JSON object; kind and id (the name of its files) are optional",
    )
    run.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="folder of results and journal"
    )
    run.add_argument(
        "--keep-going", action="store_true", help="go on with the next row when one fails; else stop there"
    )
    add_run_flags(run)
    add_model_flags(run)


def _run(options: argparse.Namespace) -> int:
    """Run the rows. Returns 1 if one has failed."""
    from ..fleet.batch_folder import BatchFolder
    from ..fleet.batch_rows import read_rows
    from ..fleet.batch_run import run_batch
    from ..fleet.local_place import LocalPlace
    from ..fleet.manifest import MANIFEST

    rows, problems = read_rows(options.rows, options.kind)
    with showing_residency():
        place = LocalPlace(worker_of(options, keeps=True))
        folder = BatchFolder(options.output)
        result = run_batch(
            rows,
            folder,
            place,
            RowLines(),
            settings=place.settings(),
            problems=problems,
            keep_going=options.keep_going,
        )
    _print_result(result, folder.path / MANIFEST, as_json=options.json)
    return 1 if result.failed else 0


class RowLines:
    """Prints a line on stderr when a row begins and when it ends."""

    def resumed(self, done: int, rows: int) -> None:
        if done:
            _say(f"{done} of {rows} rows are done already")

    def begun(self, position: int, rows: int, row: JournalRow, left_s: float | None) -> None:
        left = "" if left_s is None else f"; about {_duration(left_s)} left"
        _say(f"row {position} of {rows}: {row.name}, line {row.line}{left}")

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
