"""Finds the batches below a folder, says how far each is, and lets their rows be cancelled or tried again.

A batch is a folder with a journal, `batch.sqlite`. Of other folders than the searched one
nothing is said.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from ..errors import JournalError, WanDuetError
from .batch_folder import BatchFolder
from .batch_progress import BatchProgress, open_batch, progress_of
from .row_journal import JournalRow, RowJournal

__all__ = [
    "MOST_BATCHES",
    "MOST_FOLDERS",
    "cancel_batch",
    "find_batches",
    "list_batches",
    "retry_batch",
    "told_batch",
    "without_folders",
]

MOST_FOLDERS = 4  # from the searched folder, which may be a batch itself, down to a batch
MOST_BATCHES = 20  # each is read anew for every list
_MOST_ERRORS = 3
# Not in a relative path or an address: those are the user's own words.
_FOLDERS = re.compile(r"""(?<![\w.:/\\~-])(?:[A-Za-z]:)?[/\\]{1,2}(?:[^\s/\\'",;:()]+[/\\]+)+""")


def find_batches(root: Path) -> list[Path]:
    """Return the folders of batches in `root`, at most MOST_FOLDERS deep; the last changed first.

    Neither links nor folders whose name begins with a dot are followed.
    """
    changed = {folder: _changed_at(folder) for folder in _folders(root, MOST_FOLDERS)}
    return sorted(changed, key=lambda folder: changed[folder], reverse=True)


def list_batches(root: Path, now: float) -> dict[str, Any]:
    """Return how far the last MOST_BATCHES batches below `root` are, as JSON. now: seconds since 1970.

    A batch whose journal cannot be read has its name and a problem only.
    """
    found = find_batches(root)
    return {
        "batches": [_told(folder, root, now) for folder in found[:MOST_BATCHES]],
        "older": max(0, len(found) - MOST_BATCHES),
        "folders": MOST_FOLDERS,
    }


def cancel_batch(root: Path, name: str) -> int:
    """Cancel the rows of a batch that are not done, and return how many. Raises JournalError.

    name: as `list_batches` says it.
    """
    return _change(root, name, RowJournal.cancel)


def retry_batch(root: Path, name: str) -> int:
    """Let rows wait again that have failed or were cancelled. As `cancel_batch`."""
    return _change(root, name, RowJournal.retry)


def _change(root: Path, name: str, change: Callable[[RowJournal, list[int]], list[JournalRow]]) -> int:
    # The name comes from a web page: it is compared, and never becomes a path.
    folder = next((one for one in find_batches(root) if _name(one, root) == name), None)
    if folder is None:
        raise JournalError(f"{name[:200]}: no such batch; the list has changed")
    try:
        with closing(open_batch(folder)) as journal:
            return len(change(journal, [row.number for row in journal.rows()]))
    except WanDuetError as error:
        raise JournalError(without_folders(str(error), root)) from None


def _told(folder: Path, root: Path, now: float) -> dict[str, Any]:
    name = _name(folder, root)
    try:
        with closing(open_batch(folder)) as journal:
            progress = progress_of(journal, now)
    except (WanDuetError, OSError) as error:
        return {"batch": name, "problem": without_folders(str(error), root)}
    return told_batch(name, progress, root)


def told_batch(name: str, progress: BatchProgress, root: Path | None = None) -> dict[str, Any]:
    """Return how far a batch is, as JSON, with a few of its errors. root: as for `without_folders`."""
    facts = progress.as_dict()
    errors = facts["errors"]
    shown = [{**one, "error": without_folders(one["error"], root)} for one in errors[:_MOST_ERRORS]]
    return {
        **facts,
        "batch": name,
        "problem": None,
        "names": sorted({row.batch for row in progress.rows if row.batch}),
        "is_over": progress.is_over,
        "errors": shown,
        "more_errors": len(errors) - len(shown),
    }


def _name(folder: Path, root: Path) -> str:
    return folder.relative_to(root).as_posix()


def without_folders(text: str, root: Path | None = None) -> str:
    """Return a message without the folders of the paths in it, except those below `root`."""
    inside = text if root is None else text.replace(f"{root}{os.sep}", "")
    return _FOLDERS.sub("…/", inside)


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    with suppress(OSError):  # it has gone, or is not ours
        with os.scandir(folder) as found:
            entries = [entry for entry in found if _is_of_interest(entry)]
        if any(entry.name == BatchFolder.JOURNAL for entry in entries):
            yield folder
        for entry in entries:
            if depth and entry.name != BatchFolder.JOURNAL:
                yield from _folders(folder / entry.name, depth - 1)


def _is_of_interest(entry: os.DirEntry[str]) -> bool:
    if entry.name == BatchFolder.JOURNAL:
        return entry.is_file(follow_symlinks=False)
    return not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)


def _changed_at(folder: Path) -> float:
    """Return when the journal was written to, in seconds since 1970; 0 if it has gone."""
    times = [0.0]
    for name in (BatchFolder.JOURNAL, f"{BatchFolder.JOURNAL}-wal"):
        with suppress(OSError):
            times.append((folder / name).stat().st_mtime)
    return max(times)
