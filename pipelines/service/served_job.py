"""One job of the service, as a row of its queue."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any, Literal

from ..fleet.worker import BOUGHT

__all__ = ["COLUMNS", "SCHEMA", "JobState", "ServedJob"]

JobState = Literal["waiting", "running", "publishing", "done", "failed", "cancelled", "deleted"]

SCHEMA = """
CREATE TABLE jobs (
  number INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  client TEXT NOT NULL,
  idempotency_key TEXT,
  posted_sha256 TEXT NOT NULL,
  kind TEXT NOT NULL,
  request_json TEXT NOT NULL,
  about_json TEXT NOT NULL,
  seed TEXT NOT NULL,
  state TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  deaths INTEGER NOT NULL,
  place TEXT,
  file TEXT,
  size_bytes INTEGER,
  sha256 TEXT,
  frames_sha256 TEXT,
  seconds REAL NOT NULL,
  usd REAL NOT NULL,
  error TEXT,
  webhook_url TEXT,
  webhook_state TEXT,
  webhook_tries INTEGER NOT NULL,
  webhook_due_at REAL,
  created_at REAL NOT NULL,
  started_at REAL,
  ended_at REAL,
  UNIQUE (client, idempotency_key)
);
CREATE INDEX jobs_by_state ON jobs (state);
CREATE INDEX jobs_by_client ON jobs (client, started_at);
CREATE INDEX jobs_by_webhook ON jobs (webhook_state)
"""


@dataclass(frozen=True)
class ServedJob:
    """One job; the fields are the columns. Times are seconds since 1970.

    name:          its id, and the name of its files.
    posted_sha256: of what the client sent, to know it again under its idempotency key.
    request_json:  the fields of the request. Once the job has ended, without the contents of files.
    about_json:    what the OpenAI form said beside the request.
    seed:          that of the request, or the one that was drawn; text, as SQLite's integers are too small.
    attempt:       how often it was begun. deaths: how often the service or its worker died meanwhile.
    seconds, usd:  of all attempts.
    webhook_state: None, "due", "sent" or "given up".
    """

    number: int
    name: str
    client: str
    idempotency_key: str | None
    posted_sha256: str
    kind: str
    request_json: str
    about_json: str
    seed: str
    state: JobState
    attempt: int
    deaths: int
    place: str | None
    file: str | None
    size_bytes: int | None
    sha256: str | None
    frames_sha256: str | None
    seconds: float
    usd: float
    error: str | None
    webhook_url: str | None
    webhook_state: str | None
    webhook_tries: int
    webhook_due_at: float | None
    created_at: float
    started_at: float | None
    ended_at: float | None

    @property
    def is_bought(self) -> bool:
        """Whether it was given to a provider, and so may be paid for."""
        return self.place is not None and self.place.startswith(BOUGHT)

    @property
    def is_open(self) -> bool:
        return self.state in ("waiting", "running", "publishing")

    def request_fields(self) -> dict[str, Any]:
        """Return the fields of the request, with the seed of this job."""
        return {**json.loads(self.request_json), "seed": int(self.seed)}


COLUMNS = ", ".join(field.name for field in fields(ServedJob))
