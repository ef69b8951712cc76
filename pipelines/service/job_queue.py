"""The queue of the service: one SQLite table, so that an accepted job outlives the process.

    waiting ──> running ──> publishing ──> done
       ^           │
       └───────────┴──> failed, cancelled

A job is `running` under the number of its attempt. Only that attempt may publish its files.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ServiceError
from ..fleet.worker import BOUGHT, LeaseLost
from ..remote.journal_file import as_journal_error, insert, open_journal, transaction, update
from ..remote.stored_form import fingerprint, stored_form
from ..request.base import WanRequest
from ..request.seeds import seed_for_run
from .served_job import COLUMNS, SCHEMA, JobState, ServedJob

__all__ = ["ClientUse", "JobQueue", "PostedJob"]

_DAMAGED = "Move it away; its jobs are then lost, finished files stay"
_FAIRLY = """ORDER BY
    (SELECT MAX(other.started_at) FROM jobs other WHERE other.client = jobs.client), number"""
_MOST_DEATHS = 3  # a job that ends the process each time must not keep the others from running


@dataclass(frozen=True)
class PostedJob:
    """What a client sent. about: what the OpenAI form says beside the request."""

    request: WanRequest
    about: dict[str, Any]
    webhook_url: str | None = None

    def sha256(self) -> str:
        document = {"kind": self.request.kind, **self.request.document()}
        return fingerprint({"request": document, "about": self.about, "webhook": self.webhook_url})


@dataclass(frozen=True)
class ClientUse:
    """What a client has used. usd: since the time that was asked for. open_jobs: now.

    longest_s: seconds of the longest finished job of anybody; None before the first one.
    """

    usd: float
    open_jobs: int
    longest_s: float | None


class JobQueue:
    """The table of jobs. Threads may share it. Raises JournalError if the file cannot be read or written.

    now: returns seconds since 1970. usd_per_hour: the price of an hour of work.
    """

    def __init__(self, file: Path, now: Callable[[], float], usd_per_hour: float = 0.0) -> None:
        self.file, self.now, self.usd_per_hour, self._lock = file, now, usd_per_hour, threading.RLock()
        with as_journal_error(file, _DAMAGED):
            self._database = open_journal(file, (SCHEMA,))

    def close(self) -> None:
        self._database.close()

    def accept(
        self, client: str, posted: PostedJob, key: str | None, require: Callable[[], None]
    ) -> tuple[ServedJob, bool]:
        """Return the job of this request and whether it was accepted before, under the idempotency key `key`.

        require: called before a new job is written; raises if there is no room for one.

        Raises ServiceError if the client used the key for another request.
        """
        with self._transaction():
            known = self.keyed(client, key)
            if known is None:
                require()
                known = self._insert(client, posted, key)
                return known, False
        if known.posted_sha256 != posted.sha256():
            message = "Idempotency-Key: used before for another request; give each request a key of its own"
            raise ServiceError(message, status=422, code="idempotency_key_reused")
        return known, True

    def keyed(self, client: str, key: str | None) -> ServedJob | None:
        """Return the job of a client with this idempotency key."""
        found = [] if key is None else self._select("client = ? AND idempotency_key = ?", client, key)
        return found[0] if found else None

    def waiting(self) -> int:
        return self._count("state = 'waiting'")

    def use_of(self, client: str, since: float) -> ClientUse:
        """Return what a client has used since a time in seconds since 1970."""
        with self._lock, as_journal_error(self.file, _DAMAGED):
            (usd,) = self._database.execute(
                "SELECT TOTAL(usd) FROM jobs WHERE client = ? AND created_at >= ?", (client, since)
            ).fetchone()
            (longest,) = self._database.execute(
                "SELECT MAX(seconds) FROM jobs WHERE state = 'done'"
            ).fetchone()
        still = "client = ? AND state IN ('waiting', 'running', 'publishing')"
        return ClientUse(usd, self._count(still, client), longest)

    def waiting_jobs(self) -> list[ServedJob]:
        """Return jobs in the order in which they are begun: clients take turns."""
        return self._select(f"state = 'waiting' {_FAIRLY}")

    def take(self, place: str) -> ServedJob | None:
        """Begin the next attempt of a waiting job here, or return None."""
        with self._transaction():
            here = f"state = 'waiting' AND COALESCE(place, '') NOT LIKE ? || '%' {_FAIRLY} LIMIT 1"
            found = self._select(here, BOUGHT)
            return self._begin(found[0], place) if found else None

    def buy(self, job: ServedJob, place: str, usd: float) -> ServedJob | None:
        """Begin an attempt at a provider, which may cost so much more. None if the job does not wait now."""
        with self._transaction():
            now = self._job(job.number)
            if (now.state, now.attempt) != ("waiting", job.attempt):
                return None
            return self._begin(now, place, usd=now.usd + usd)

    def hand_back(self, job: ServedJob, usd: float) -> None:
        """Let a job wait for a worker here: it was not bought, and does not cost `usd`."""
        with suppress(LeaseLost):
            self._leave(job, "running", state="waiting", place=None, usd=max(job.usd - usd, 0.0))

    def bought_usd(self, since: float) -> float:
        """Return what the jobs may cost that were given to a provider. since: seconds since 1970."""
        with self._lock, as_journal_error(self.file, _DAMAGED):
            query = "SELECT TOTAL(usd) FROM jobs WHERE place LIKE ? || '%' AND created_at >= ?"
            return float(self._database.execute(query, (BOUGHT, since)).fetchone()[0])

    def publish(self, job: ServedJob, seconds: float, **columns: Any) -> ServedJob:
        """Record that the files of this attempt are complete. Raises LeaseLost for an older attempt."""
        return self._leave(job, "running", state="publishing", **self._cost(job, seconds), **columns)

    def finish(self, job: ServedJob) -> ServedJob:
        """Record that the files are in their places."""
        return self._leave(job, "publishing", state="done", **self._ended(job))

    def fail(self, job: ServedJob, error: str, seconds: float) -> ServedJob:
        return self._leave(
            job, "running", state="failed", error=error, **self._cost(job, seconds), **self._ended(job)
        )

    def give_back(self, job: ServedJob, seconds: float) -> None:
        """Let a job whose attempt was stopped wait again; one that was cancelled only costs its seconds."""
        with self._transaction():
            now = self._job(job.number)
            if (now.state, now.attempt) == ("running", job.attempt):
                self._set(job, state="waiting")
            self._set(job, **self._cost(now, seconds))

    def lose_worker(self, job: ServedJob, error: str, seconds: float) -> None:
        """Let a job whose worker died wait again. It fails at the third death, as in `resume`."""
        if job.deaths + 1 >= _MOST_DEATHS:
            self.fail(job, f"its worker died {_MOST_DEATHS} times: {error}", seconds)
            return
        again = {"state": "waiting", "deaths": job.deaths + 1}
        self._leave(job, "running", **again, **self._cost(job, seconds))

    def lose(self, job: ServedJob) -> None:
        """Let a job whose complete files vanished wait again."""
        self._leave(job, "publishing", state="waiting")

    def cancel(self, job: ServedJob) -> ServedJob:
        """Cancel a job that waits or runs. Raises ServiceError for one that has ended."""
        with self._transaction():
            now = self._job(job.number)
            if now.state not in ("waiting", "running"):
                message = f"job {job.name} is {now.state}, so it cannot be cancelled"
                raise ServiceError(message, status=409, code="not_cancellable")
            self._set(job, state="cancelled", **self._ended(now))
            return self._job(job.number)

    def delete(self, job: ServedJob) -> None:
        """Forget a job that has ended. Its cost and its idempotency key stay known."""
        with self._transaction():
            if self._job(job.number).is_open:
                message = f"job {job.name} is not at its end; cancel it first"
                raise ServiceError(message, status=409, code="still_open")
            self._set(job, state="deleted", request_json="{}", about_json="{}", error=None)

    def resume(self) -> list[ServedJob]:
        """Let jobs wait again that a dead process was running. Returns those that it was publishing.

        A job that was running at three deaths fails. Only for a process that is alone with the queue.
        """
        with self._transaction():
            for job in self._select("state = 'running'"):
                if job.is_bought:  # it runs elsewhere, and ends no process here
                    self._set(job, state="waiting")
                    continue
                if job.deaths + 1 < _MOST_DEATHS:
                    self._set(job, state="waiting", deaths=job.deaths + 1)
                    continue
                error = f"the service died {_MOST_DEATHS} times while it ran this job"
                self._set(job, state="failed", deaths=job.deaths + 1, error=error, **self._ended(job))
            return self._select("state = 'publishing'")

    def find(self, client: str, name: str) -> ServedJob:
        """Return a job of a client. Raises ServiceError if it has none of this name."""
        found = self._select("client = ? AND name = ? AND state != 'deleted'", client, name)
        if not found:
            raise ServiceError("there is no such job", status=404, code="not_found")
        return found[0]

    def is_running(self, job: ServedJob) -> bool:
        """Return whether this attempt of a job is still the one that may publish."""
        now = self._job(job.number)
        return (now.state, now.attempt) == ("running", job.attempt)

    def jobs(self, client: str, limit: int, after: str | None = None) -> list[ServedJob]:
        """Return jobs of a client, the newest first. after: the name of the job before the first one.

        Raises ServiceError if there is no such job.
        """
        below = 2**62 if after is None else self.find(client, after).number
        known = "client = ? AND state != 'deleted' AND number < ? ORDER BY number DESC LIMIT ?"
        return self._select(known, client, below, limit)

    def due_webhooks(self) -> list[ServedJob]:
        return self._select("webhook_state = 'due' AND webhook_due_at <= ? LIMIT 100", self.now())

    def note_webhook(self, job: ServedJob, state: str, due_at: float | None = None) -> None:
        """Record a try to deliver. due_at: when to try again, in seconds since 1970."""
        with self._transaction():
            self._set(job, webhook_state=state, webhook_due_at=due_at, webhook_tries=job.webhook_tries + 1)

    def _insert(self, client: str, posted: PostedJob, key: str | None) -> ServedJob:
        (number,) = self._database.execute("SELECT COALESCE(MAX(number), 0) + 1 FROM jobs").fetchone()
        job = ServedJob(
            number=number,
            name=f"video_{uuid.uuid4().hex}",
            client=client,
            idempotency_key=key,
            posted_sha256=posted.sha256(),
            kind=posted.request.kind,
            request_json=json.dumps(posted.request.document(), ensure_ascii=False),
            about_json=json.dumps(posted.about, ensure_ascii=False),
            seed=str(seed_for_run(posted.request, "local")),
            state="waiting",
            attempt=0,
            deaths=0,
            place=None,
            file=None,
            size_bytes=None,
            sha256=None,
            frames_sha256=None,
            seconds=0.0,
            usd=0.0,
            error=None,
            webhook_url=posted.webhook_url,
            webhook_state=None,
            webhook_tries=0,
            webhook_due_at=None,
            created_at=self.now(),
            started_at=None,
            ended_at=None,
        )
        insert(self._database, "jobs", job)
        return job

    def _begin(self, job: ServedJob, place: str, **columns: Any) -> ServedJob:
        begun = {"attempt": job.attempt + 1, "place": place, "started_at": self.now(), "error": None}
        self._set(job, state="running", **begun, **columns)
        return self._job(job.number)

    def _cost(self, job: ServedJob, seconds: float) -> dict[str, float]:
        """Return the columns of an attempt here. What is bought has its price, and costs no seconds."""
        if job.is_bought:
            return {"seconds": job.seconds}
        total = job.seconds + seconds
        return {"seconds": round(total, 3), "usd": total / 3600 * self.usd_per_hour}

    def _ended(self, job: ServedJob) -> dict[str, Any]:
        """Return the columns of an end: no contents of files are kept, and the webhook is due."""
        kept = json.dumps(stored_form(json.loads(job.request_json)), ensure_ascii=False)
        due = {} if job.webhook_url is None else {"webhook_state": "due", "webhook_due_at": self.now()}
        return {"request_json": kept, "ended_at": self.now(), **due}

    def _leave(self, job: ServedJob, before: JobState, **columns: Any) -> ServedJob:
        with self._transaction():
            now = self._job(job.number)
            if (now.state, now.attempt) != (before, job.attempt):
                raise LeaseLost
            self._set(job, **columns)
            return self._job(job.number)

    def _job(self, number: int) -> ServedJob:
        return self._select("number = ?", number)[0]

    def _set(self, job: ServedJob, **columns: Any) -> None:
        update(self._database, "jobs", ("number", job.number), columns)

    def _count(self, where: str, *values: Any) -> int:
        with self._lock, as_journal_error(self.file, _DAMAGED):
            query = f"SELECT COUNT(*) FROM jobs WHERE {where}"  # noqa: S608 - the conditions are our own
            return int(self._database.execute(query, values).fetchone()[0])

    def _select(self, where: str, *values: Any) -> list[ServedJob]:
        with self._lock, as_journal_error(self.file, _DAMAGED):
            query = f"SELECT {COLUMNS} FROM jobs WHERE {where}"  # noqa: S608 - the conditions are our own
            return [ServedJob(*row) for row in self._database.execute(query, values).fetchall()]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with as_journal_error(self.file, _DAMAGED), transaction(self._database, self._lock):
            yield
