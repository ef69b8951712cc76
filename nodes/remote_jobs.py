"""Holds the thread of all remote jobs of this ComfyUI. It starts when it is first needed.

ComfyUI runs each graph on its own event loop, which any node that computes blocks. Jobs must outlive both.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import folder_paths

from ..pipelines.errors import WanDuetError

if TYPE_CHECKING:
    from ..pipelines.remote.accounts import Accounts
    from ..pipelines.remote.job_event import OnEvent
    from ..pipelines.remote.job_record import Order
    from ..pipelines.remote.payload import Prepared
    from ..pipelines.remote.remote_thread import RemoteThread, Ticket
    from ..pipelines.remote.spending_limits import SpendingLimits

__all__ = [
    "PurchaseTerms",
    "RemoteJobs",
    "accepts_key",
    "follow_job",
    "go_on_with_open_jobs",
    "purchasing_at",
    "remote_folder",
    "remote_jobs",
]

log = logging.getLogger(__name__)

_BEGINNING = threading.Lock()


class RemoteJobs(NamedTuple):
    thread: RemoteThread
    accounts: Accounts


def remote_folder() -> Path:
    """Return the folder of journal, keys and settings. ComfyUI does not serve it over HTTP."""
    return Path(folder_paths.get_system_user_directory("wan_duet"))


def remote_jobs() -> RemoteJobs:
    """Return the jobs, always the same object. Raises JournalError if the journal cannot be used."""
    with _BEGINNING:
        return _begun()


class PurchaseTerms(NamedTuple):
    """How a node buys. workflow: for the jobs panel. reuse, resubmit: as for `RemoteThread.buy`."""

    limits: SpendingLimits
    workflow: Any | None
    reuse: bool
    resubmit: bool


def purchasing_at(provider: str, terms: PurchaseTerms) -> Callable[[Order, Prepared, OnEvent], Ticket]:
    """Return what starts, joins or finds the job of an order. Raises KeyProblemError without a key."""
    from ..pipelines.remote.order import uploading

    thread, accounts = remote_jobs()
    account = accounts.at(provider)

    def buy(order: Order, prepared: Prepared, on_event: OnEvent) -> Ticket:
        if terms.workflow is not None:
            order = replace(order, about={**order.about, "workflow": terms.workflow})
        return thread.buy(
            order,
            account,
            limits=terms.limits,
            prepare=uploading(prepared, account),
            on_event=on_event,
            reuse=terms.reuse,
            resubmit=terms.resubmit,
        )

    return buy


def accepts_key(provider: str) -> bool:
    """Ask a provider whether it accepts the current key. Free. Raises if the provider cannot be asked."""
    thread, accounts = remote_jobs()
    return bool(thread.run(accounts.at(provider).accepts_key()))


def follow_job(job_id: str) -> None:
    """Resume an open job in the background. Raises KeyProblemError without the key that started it."""
    thread, accounts = remote_jobs()
    job = thread.journal.job(job_id)
    thread.attach(job.job_id, accounts.of(job), lambda _: None)


def go_on_with_open_jobs() -> None:
    """Resume all jobs that were open when ComfyUI ended. Returns at once."""
    if (remote_folder() / "jobs.sqlite").exists():
        threading.Thread(target=_go_on, name="wan-duet-resume", daemon=True).start()


def _go_on() -> None:
    from ..pipelines.remote.journal import Journal

    try:
        journal = Journal(remote_folder() / "jobs.sqlite", time.time)
        try:
            is_open = bool(journal.jobs(open_only=True))
        finally:
            journal.close()
        if is_open:
            thread, accounts = remote_jobs()
            thread.resume(accounts.all())
    except WanDuetError as error:  # ComfyUI works without it, and a run reports it
        log.warning("open jobs wait: %s", error)


@cache
def _begun() -> RemoteJobs:
    from ..pipelines.remote.accounts import Accounts
    from ..pipelines.remote.remote_thread import RemoteThread

    thread = RemoteThread(remote_folder())
    return RemoteJobs(thread, Accounts(remote_folder(), thread.run))
