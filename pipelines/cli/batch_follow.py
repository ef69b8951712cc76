"""`wan-duet batch status`, `watch`, `retry`, `cancel` and `export`: while the batch runs, and after."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RequestError
from .batch_lines import duration
from .subcommands import add_command

if TYPE_CHECKING:
    from ..fleet.batch_progress import BatchProgress
    from ..fleet.row_journal import RowJournal

__all__ = ["add_follow_commands"]

_EVERY_S = 1.0
_GO_ON = "`batch run` with the same rows goes on with them; one that runs takes them up"


def add_follow_commands(batch: Any) -> None:
    """Add the commands to the group `batch`."""
    texts: dict[str, tuple[Callable[[argparse.Namespace], int], str]] = {
        "status": (_status, "say how far a batch is, also while another process runs it"),
        "watch": (_watch, "show how far a batch is until it ends; with --json one object for each change"),
        "retry": (_retry, "let rows wait again that have failed or were cancelled"),
        "cancel": (_cancel, "cancel rows that are not done; one that runs is not published"),
        "export": (_export, "write all rows with their results, as .jsonl or .csv"),
    }
    for name, (function, text) in texts.items():
        added = add_command(batch, name, function, text)
        added.add_argument("folder", type=Path, metavar="DIR", help="what `batch run -o` was given")
        if name in ("retry", "cancel"):
            added.add_argument("rows", nargs="*", metavar="ROW", help="the id of a row; default: all of them")
        if name == "export":
            added.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.jsonl|OUT.csv")


def _status(options: argparse.Namespace) -> int:
    """Print the state. Returns 1 if a row has failed."""
    with _opened(options) as journal:
        progress = _progress(journal)
    _print(progress, as_json=options.json)
    return 1 if progress.counts.get("failed") else 0


def _watch(options: argparse.Namespace) -> int:
    """Print each change until no process works on the batch. Returns as `_status`."""
    shown = ""
    with _opened(options) as journal:
        while True:
            progress = _progress(journal)
            facts = json.dumps({**progress.as_dict(), "now": [], "left_s": None})
            if facts != shown:
                _print(progress, as_json=options.json)
                shown = facts
            if progress.is_over or not progress.is_running:
                return 1 if progress.counts.get("failed") else 0
            time.sleep(_EVERY_S)


def _retry(options: argparse.Namespace) -> int:
    return _change(options, "retry", f"wait again: {_GO_ON}")


def _cancel(options: argparse.Namespace) -> int:
    return _change(options, "cancel", "are cancelled; `batch retry` lets them wait again")


def _change(options: argparse.Namespace, action: str, words: str) -> int:
    from ..fleet.batch_progress import rows_named

    with _opened(options) as journal:
        numbers = rows_named(journal, options.rows)
        changed = journal.retry(numbers) if action == "retry" else journal.cancel(numbers)
    if options.json:
        print(json.dumps({"rows": [row.name for row in changed]}))
    else:
        print(f"{len(changed)} {'row' if len(changed) == 1 else 'rows'} {words}")
    return 0


def _export(options: argparse.Namespace) -> int:
    from ..fleet.manifest import write_rows

    with _opened(options) as journal:
        rows = journal.rows()
    if options.output.suffix.lower() not in (".jsonl", ".csv"):
        raise RequestError.of(
            "--output", f"got {options.output.name}", "give a name that ends in .jsonl or .csv"
        )
    write_rows(options.output, rows)
    print(json.dumps({"rows": len(rows), "file": str(options.output)}) if options.json else options.output)
    return 0


@contextmanager
def _opened(options: argparse.Namespace) -> Iterator[RowJournal]:
    from ..fleet.batch_progress import open_batch

    journal = open_batch(options.folder)
    try:
        yield journal
    finally:
        journal.close()


def _progress(journal: RowJournal) -> BatchProgress:
    from ..fleet.batch_progress import progress_of

    return progress_of(journal, time.time())


def _print(progress: BatchProgress, *, as_json: bool) -> None:
    facts = progress.as_dict()
    if as_json:
        print(json.dumps(facts, ensure_ascii=False), flush=True)
        return
    states = ", ".join(f"{count} {state}" for state, count in progress.counts.items())
    left = "" if progress.left_s is None else f"; about {duration(progress.left_s)} left"
    runs = "" if progress.is_running or progress.is_over else "; no process works on it"
    print(f"{len(progress.rows)} rows: {states}{left}{runs}", flush=True)
    for row in facts["now"]:
        print(f"  {row['place']}: {row['id']}, attempt {row['attempt']}, for {duration(row['since_s'])}")
    for row in facts["errors"]:
        print(f"  {row['id']} (line {row['line']}) {row['state']}: {row['error']}", file=sys.stderr)
