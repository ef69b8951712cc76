"""Opens the SQLite file of a journal, and writes to it: alone among all processes, synced at each commit."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from ..errors import JournalError
from .schema import bring_up_to_date

__all__ = ["as_journal_error", "insert", "open_journal", "transaction", "update"]

_PATIENCE = 10.0  # seconds to wait for other processes


def open_journal(
    file: Path, migrations: Sequence[str], connect: Callable[..., sqlite3.Connection] = sqlite3.connect
) -> sqlite3.Connection:
    """Open or make the file, with the tables of `migrations`. Raises JournalError and sqlite3 errors."""
    file.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))  # prompts are nobody else's business
    database = connect(file, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
    _switch_to_wal(database)
    database.execute("PRAGMA synchronous = FULL")  # a commit outlives a loss of power
    bring_up_to_date(database, str(file), migrations)
    return database


def _switch_to_wal(database: sqlite3.Connection) -> None:
    """Write ahead of the file. SQLite fails at once, whatever its timeout, if others switch it too."""
    again = Retrying(
        retry=retry_if_exception(_is_locked),
        wait=wait_fixed(0.02),
        stop=stop_after_delay(_PATIENCE),
        reraise=True,
    )
    again(database.execute, "PRAGMA journal_mode = WAL")


def _is_locked(error: BaseException) -> bool:
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)


@contextmanager
def transaction(database: sqlite3.Connection, lock: threading.RLock) -> Iterator[None]:
    """Be alone among all writers. What is written is on disk at the end, or not at all."""
    with lock:
        database.execute("BEGIN IMMEDIATE")
        try:
            yield
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:  # on a full disk SQLite has rolled back already
                database.execute("ROLLBACK")
            raise


def insert(database: sqlite3.Connection, table: str, row: object) -> None:
    """Insert a dataclass whose fields are the columns of the table."""
    values = vars(row)
    names, marks = ", ".join(values), ", ".join("?" * len(values))
    database.execute(
        f"INSERT INTO {table} ({names}) VALUES ({marks})",  # noqa: S608 - the names are our own
        tuple(values.values()),
    )


def update(
    database: sqlite3.Connection, table: str, key: tuple[str, str | int], columns: Mapping[str, Any]
) -> None:
    """Change columns of the row whose key column has this value. key: (column, value)."""
    names = ", ".join(f"{name} = ?" for name in columns)
    database.execute(
        f"UPDATE {table} SET {names} WHERE {key[0]} = ?",  # noqa: S608 - the names are our own
        (*columns.values(), key[1]),
    )


@contextmanager
def as_journal_error(file: Path, damaged: str) -> Iterator[None]:
    """Turn errors of SQLite and of the disk into JournalError. damaged: what to do about a damaged file."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise
    except sqlite3.OperationalError as error:  # locked, full, not writable: the file itself may be sound
        raise JournalError(f"the journal cannot be used: {file}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise JournalError(f"the journal is damaged: {file}: {error}. {damaged}") from error
    except OSError as error:
        raise JournalError(f"the journal cannot be used: {file}: {error}") from error
