"""The tables of the journal, one migration per version. A released migration is never changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from ..errors import JournalError

__all__ = ["MIGRATIONS", "bring_up_to_date"]

_FIRST = """
CREATE TABLE jobs (
  job_id TEXT PRIMARY KEY,
  provider TEXT NOT NULL,
  account TEXT NOT NULL,
  endpoint TEXT NOT NULL,
  payload_sha256 TEXT NOT NULL,
  payload_json TEXT NOT NULL,
  about_json TEXT NOT NULL,
  out_path TEXT NOT NULL,
  state TEXT NOT NULL,
  money TEXT NOT NULL,
  stop_asked INTEGER NOT NULL,
  told INTEGER NOT NULL,
  owner TEXT,
  price_usd REAL,
  price_high REAL,
  price_text TEXT NOT NULL,
  charged REAL,
  created_at REAL NOT NULL,
  updated_at REAL NOT NULL,
  sent_at REAL,
  closed_at REAL,
  sent_json TEXT,
  request_id TEXT,
  status_url TEXT,
  response_url TEXT,
  cancel_url TEXT,
  outcome_json TEXT,
  file_path TEXT,
  size_bytes INTEGER,
  sha256 TEXT,
  error TEXT
);
CREATE INDEX jobs_by_payload ON jobs (provider, endpoint, payload_sha256, account);
CREATE INDEX jobs_by_state ON jobs (state);
CREATE UNIQUE INDEX jobs_by_file ON jobs (file_path)
"""

_SEEN = """
ALTER TABLE jobs ADD COLUMN known_at REAL;
ALTER TABLE jobs ADD COLUMN completed_at REAL
"""

MIGRATIONS: tuple[str, ...] = (_FIRST, _SEEN)


def bring_up_to_date(
    database: sqlite3.Connection, place: str, migrations: Sequence[str] = MIGRATIONS
) -> None:
    """Run the migrations that the file does not have yet, all or none.

    Raises JournalError for a file of a newer version of the pack. This version could misread its rows, and a
    misread row may cost money.
    """
    database.execute("BEGIN IMMEDIATE")
    try:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version > len(migrations):
            raise JournalError(
                f"{place} was written by a newer version of this pack (journal format {version}, here "
                f"{len(migrations)}); update the pack"
            )
        for migration in migrations[version:]:
            for statement in migration.split(";"):
                database.execute(statement)
        database.execute(f"PRAGMA user_version = {len(migrations)}")
        database.execute("COMMIT")
    except BaseException:
        database.execute("ROLLBACK")
        raise
