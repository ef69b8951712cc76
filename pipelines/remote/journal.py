"""The journal: one SQLite table of jobs. A job is on disk before money can be spent."""

from __future__ import annotations

import json
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import JournalError
from .job_record import FOLLOWS, OPEN, Job, Order, State
from .journal_file import as_journal_error, insert, open_journal, transaction, update
from .owner_lock import OwnerLock
from .provider import Submitted
from .schema import MIGRATIONS
from .stored_form import fingerprint, stored_form

__all__ = ["Journal", "Spent"]

_COLUMNS = ", ".join(field.name for field in fields(Job))
_AT_PROVIDER: Sequence[State] = ("submitted", "running")
_DAMAGED = (
    "Move it away, with the files whose names begin so, and look on the providers' sites for jobs that "
    "were open"
)


@dataclass(frozen=True)
class Spent:
    """US dollars spent since some moment. Open jobs count with their highest price.

    jobs_of_unknown_price: not included in `usd`.
    """

    usd: float
    jobs_of_unknown_price: int


class Journal:
    """The table of jobs. Threads may share it, and several processes may open the same file.

    now:     returns seconds since 1970.
    connect: opens the database.

    Raises JournalError if the file cannot be read or written.
    """

    def __init__(
        self,
        file: Path,
        now: Callable[[], float],
        connect: Callable[..., sqlite3.Connection] = sqlite3.connect,
    ) -> None:
        self.file, self._now, self._lock = file, now, threading.RLock()
        with as_journal_error(file, _DAMAGED):
            self._database = open_journal(file, MIGRATIONS, connect)

    def close(self) -> None:
        self._database.close()

    def begin(
        self,
        order: Order,
        account: str,
        owner: OwnerLock,
        *,
        reuse: bool,
        resubmit: bool,
        allow: Callable[[Spent], None],
        since: float,
    ) -> Job:
        """Return the job of an order: an equal open one, an equal finished one with its file, or a new one.

        An open one is moved to the output of this order. So is a finished one whose file is gone; it becomes
        completed again, to be fetched.

        Everything is one transaction, so two nodes or two processes never buy the same job, and never exceed
        a limit together.

        owner:    of a new job, so that no other process takes it.
        reuse:    whether a finished job may be returned.
        resubmit: buy a job again if its state is unknown and the user was told so.
        allow:    called with what was spent since `since`; raises if no new job is allowed.
        """
        key = (order.provider, order.endpoint, fingerprint(order.payload), account)
        out = str(order.out.absolute())
        with self._transaction():
            same = self._select(
                "provider = ? AND endpoint = ? AND payload_sha256 = ? AND account = ? "
                "ORDER BY created_at DESC, rowid DESC",
                *key,
            )
            for job in same:
                if not job.is_open or self._is_being_cancelled(job, owner):
                    continue
                if not (resubmit and job.told and self._is_idle(job, owner)):
                    self._set(job.job_id, {"stop_asked": False, "out_path": out})
                    return self.job(job.job_id)
                text = "bought again by the user, while the state of this one was unknown"
                self._set(job.job_id, {"state": "failed", "closed_at": self._now(), "error": text})
            finished = next((job for job in same if reuse and job.state == "done"), None)
            if finished is not None:
                if finished.file is None:  # the user has paid for it: it is fetched again, not bought again
                    fetch_again = {
                        "state": "completed",
                        "closed_at": None,
                        "file_path": None,
                        "out_path": out,
                    }
                    self._set(finished.job_id, fetch_again)
                return self.job(finished.job_id)
            allow(self.spent(since))
            return self._insert(order, key, owner)

    def claim(self, job_id: str, owner: OwnerLock) -> bool:
        """Make `owner` the owner of the job. Return False if another living process owns it."""
        with self._transaction():
            job = self.job(job_id)
            if not self._is_idle(job, owner):
                return job.owner == owner.token
            self._set(job_id, {"owner": owner.token})
            return True

    def release(self, job_id: str, owner: OwnerLock) -> None:
        """Give up the ownership, so that other processes may continue the job."""
        with self._transaction():
            if self.job(job_id).owner == owner.token:
                self._set(job_id, {"owner": None})

    def move(self, job_id: str, owner: OwnerLock, state: State, **columns: Any) -> Job:
        """Move the job to its next state. It is on disk when this returns.

        Raises JournalError if the state cannot follow, or if another process owns the job: programming errors
        that must not cost money.
        """
        with self._transaction():
            job = self._mine(job_id, owner)
            if state not in FOLLOWS.get(job.state, ()):
                raise JournalError(f"job {job_id} cannot go from {job.state} to {state}")
            if state not in OPEN:
                columns |= {"closed_at": self._now(), "owner": None}
            self._set(job_id, {**columns, "state": state})
            return self.job(job_id)

    def note(self, job_id: str, owner: OwnerLock, **columns: Any) -> Job:
        """Write columns of a row. Raises JournalError if another process owns the job."""
        with self._transaction():
            self._mine(job_id, owner)
            self._set(job_id, columns)
            return self.job(job_id)

    def submitted(self, job_id: str, owner: OwnerLock, ids: Submitted) -> Job:
        """Move the job to "submitted", with the ids of the provider."""
        return self.move(
            job_id,
            owner,
            "submitted",
            request_id=ids.request_id,
            status_url=ids.status_url,
            response_url=ids.response_url,
            cancel_url=ids.cancel_url,
        )

    def reserve(self, job_id: str, owner: OwnerLock, file: Path) -> bool:
        """Record the path of the job's file. Return False if another job has that path."""
        try:
            self.note(job_id, owner, file_path=str(file))
        except sqlite3.IntegrityError:
            return False
        return True

    def has_request(self, provider: str, request_id: str) -> bool:
        """Return whether a job has this request id of the provider."""
        return bool(self._select("provider = ? AND request_id = ?", provider, request_id))

    def ask_to_stop(self, job_id: str) -> None:
        """Record that the user wants to stop the job. Its owner acts on it."""
        with self._transaction():
            if self.job(job_id).is_open:
                self._set(job_id, {"stop_asked": True})

    def deliver_to(self, job_id: str, out: Path) -> None:
        """Change where the file of an open job is saved."""
        with self._transaction():
            if self.job(job_id).is_open:
                self._set(job_id, {"out_path": str(out.absolute())})

    def reopen(self, job_id: str) -> Job:
        """Open a failed or lost job again if the provider had accepted it, to ask about it once more."""
        with self._transaction():
            job = self.job(job_id)
            if job.state in ("failed", "lost") and job.request_id is not None:
                state: State = "running" if job.outcome_json is None else "completed"
                self._set(job_id, {"state": state, "closed_at": None, "file_path": None, "error": None})
            return self.job(job_id)

    def note_told(self, job_id: str) -> None:
        """Record that the user was told that the state of the job is unknown."""
        with self._transaction():
            self._set(job_id, {"told": True})

    def forget(self, job_id: str) -> None:
        """Delete the row. The caller ensures that no process works on the job."""
        with self._transaction():
            self._database.execute("DELETE FROM jobs WHERE job_id = ?", (job_id,))

    def job(self, job_id: str) -> Job:
        """Return the job with this id. Raises JournalError if there is none."""
        found = self._select("job_id = ?", job_id)
        if not found:
            raise JournalError(f"{self.file} has no job {job_id}; `wan-duet jobs list` shows all jobs")
        return found[0]

    def find(self, beginning: str) -> Job:
        """Return the job by the beginning of its id, or by the provider's id.

        Raises JournalError unless it is one.
        """
        found = [
            job for job in self.jobs() if job.job_id.startswith(beginning) or job.request_id == beginning
        ]
        if len(found) > 1:
            raise JournalError(f"{len(found)} jobs begin with {beginning!r}; give more of the id")
        return found[0] if found else self.job(beginning)

    def jobs(self, *, open_only: bool = False) -> list[Job]:
        """The oldest first."""
        states = ", ".join(f"'{state}'" for state in sorted(OPEN))
        return self._select(f"{f'state IN ({states})' if open_only else '1'} ORDER BY created_at, rowid")

    def spent(self, since: float) -> Spent:
        """By all providers and accounts, at what was charged, else at the most it was expected to cost."""
        counted = [
            job.price_high if job.charged is None else job.charged
            for job in self._select("created_at >= ?", since)
            if job.is_open or job.money != "none spent"
        ]
        known = [usd for usd in counted if usd is not None]
        return Spent(sum(known), len(counted) - len(known))

    def _insert(self, order: Order, key: tuple[str, str, str, str], owner: OwnerLock) -> Job:
        now = self._now()
        provider, endpoint, payload_sha256, account = key
        job = Job(
            job_id=uuid.uuid4().hex,
            provider=provider,
            account=account,
            endpoint=endpoint,
            payload_sha256=payload_sha256,
            payload_json=_json(order.payload),
            about_json=_json(order.about),
            out_path=str(order.out.absolute()),
            state="intent",
            money="none spent",
            stop_asked=False,
            told=False,
            owner=owner.token,
            price_usd=order.price.usd,
            price_high=order.price.high,
            price_text=order.price.text(),
            charged=None,
            created_at=now,
            updated_at=now,
        )
        insert(self._database, "jobs", job)
        return job

    def _is_being_cancelled(self, job: Job, owner: OwnerLock) -> bool:
        """Whether somebody is about to end it. One that could not be cancelled goes on."""
        return job.stop_asked and job.state in _AT_PROVIDER and not self._is_idle(job, owner)

    def _is_idle(self, job: Job, owner: OwnerLock) -> bool:
        """Whether nobody who lives works on the job."""
        return job.owner is None or not owner.is_alive(job.owner)

    def _mine(self, job_id: str, owner: OwnerLock) -> Job:
        job = self.job(job_id)
        if job.owner != owner.token:
            raise JournalError(f"job {job_id} is worked on by {job.owner or 'nobody'}, not by {owner.token}")
        return job

    def _set(self, job_id: str, columns: Mapping[str, Any]) -> None:
        update(self._database, "jobs", ("job_id", job_id), {**columns, "updated_at": self._now()})

    def _select(self, where: str, *values: Any) -> list[Job]:
        with self._lock, as_journal_error(self.file, _DAMAGED):
            rows = self._database.execute(f"SELECT {_COLUMNS} FROM jobs WHERE {where}", values).fetchall()  # noqa: S608
        return [_job(row) for row in rows]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Alone among all writers, and on disk at the end or not at all."""
        with as_journal_error(self.file, _DAMAGED), transaction(self._database, self._lock):
            yield


def _job(row: Sequence[Any]) -> Job:
    values = dict(zip((field.name for field in fields(Job)), row, strict=True))
    return Job(**{**values, "stop_asked": bool(values["stop_asked"]), "told": bool(values["told"])})


def _json(value: Any) -> str:
    return json.dumps(stored_form(value), ensure_ascii=False)
