"""`wan-duet batch run`: runs many requests, each once, here and elsewhere."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RequestError
from ..request.flags import add_flags, values_of_flags
from .batch_follow import add_follow_commands
from .batch_lines import RowLines, RowTable, say
from .batch_places import add_place_flags, approve, open_places
from .request_flags import add_model_flags, with_flags
from .run_flags import add_run_flags, showing_residency
from .subcommands import add_command, add_group

if TYPE_CHECKING:
    from ..fleet.batch_run import BatchResult
    from ..fleet.crew import RowWatcher
    from .batch_places import Places

__all__ = ["add_batch_commands"]


def add_batch_commands(commands: Any, kind: str) -> None:
    """Add `batch`: `run` with the flags of `kind`, and the commands that follow a batch."""
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
    add_place_flags(run)
    add_run_flags(run)
    add_model_flags(run)
    add_flags(run, kind, "A flag overrides that field of every row.")
    add_follow_commands(batch)


def _run(options: argparse.Namespace) -> int:
    """Run the rows. Returns 1 if one has failed."""
    from ..fleet.batch_folder import BatchFolder
    from ..fleet.batch_rows import read_rows
    from ..fleet.batch_run import run_batch
    from ..fleet.manifest import MANIFEST
    from ..fleet.row_source import holds_prompts

    if holds_prompts(options.rows) and "prompt" in values_of_flags(options):
        found = f"given beside the prompts of {options.rows.name}"
        raise RequestError.of("--prompt", found, "give one of the two")
    with showing_residency(), open_places(options) as places:
        fill = partial(with_flags, options, family=places.family)
        rows, problems = read_rows(options.rows, options.kind, fill)
        folder = BatchFolder(options.output)
        result = run_batch(
            rows,
            folder,
            places.workers,
            _watcher(options, places),
            settings=places.settings,
            problems=problems,
            keep_going=options.keep_going,
            approve=partial(approve, options),
        )
    _print_result(result, folder.path / MANIFEST, as_json=options.json)
    return 1 if result.failed else 0


def _watcher(options: argparse.Namespace, places: Places) -> RowWatcher:
    """Return a table for a terminal where the steps of rows are not shown, else lines."""
    if sys.stderr.isatty() and not places.is_here:
        return RowTable(sys.stderr, [worker.name for worker in places.workers])
    return RowLines("file" if options.rows.is_dir() else "line")


def _print_result(result: BatchResult, manifest: Path, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({**vars(result), "manifest": str(manifest)}))
        return
    print(manifest)
    waiting = f", {result.waiting} waiting: the same command goes on" if result.waiting else ""
    cancelled = f", {result.cancelled} cancelled" if result.cancelled else ""
    say(f"{result.done} done, {result.failed} failed{cancelled}{waiting}")
