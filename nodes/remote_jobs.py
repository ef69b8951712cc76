"""The remote jobs of this ComfyUI: all on one thread, which begins when it is first needed.

ComfyUI runs each graph on a loop of its own, and any node that computes blocks it. Jobs must outlive both.
"""

from __future__ import annotations

import logging
import threading
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import folder_paths

from ..pipelines.errors import WanDuetError

if TYPE_CHECKING:
    from ..pipelines.remote.accounts import Accounts
    from ..pipelines.remote.remote_thread import RemoteThread

__all__ = ["RemoteJobs", "accepts_key", "follow_job", "go_on_with_open_jobs", "remote_folder", "remote_jobs"]

log = logging.getLogger(__name__)

_BEGINNING = threading.Lock()


class RemoteJobs(NamedTuple):
    thread: RemoteThread
    accounts: Accounts


def remote_folder() -> Path:
    """Journal, keys and settings: a folder of the system, which ComfyUI does not serve over HTTP."""
    return Path(folder_paths.get_system_user_directory("wan_duet"))


def remote_jobs() -> RemoteJobs:
    """Always the same. Raises JournalError when there can be no journal, and so no job."""
    with _BEGINNING:
        return _begun()


def accepts_key(provider: str) -> bool:
    """Whether a provider takes the key that is set for it; spends nothing. Raises when it cannot be asked."""
    thread, accounts = remote_jobs()
    return bool(thread.run(accounts.at(provider).accepts_key()))


def follow_job(job_id: str) -> None:
    """Go on with an open job in the background. Raises KeyProblemError without the key it was begun with."""
    thread, accounts = remote_jobs()
    job = thread.journal.job(job_id)
    thread.attach(job.job_id, accounts.of(job), lambda _: None)


def go_on_with_open_jobs() -> None:
    """Bring home what was open when ComfyUI ended. Returns at once; a ComfyUI without jobs does nothing."""
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
    except WanDuetError as error:  # ComfyUI works without; whoever runs a request is told
        log.warning("open jobs wait: %s", error)


@cache
def _begun() -> RemoteJobs:
    from ..pipelines.remote.accounts import Accounts
    from ..pipelines.remote.remote_thread import RemoteThread

    thread = RemoteThread(remote_folder())
    return RemoteJobs(thread, Accounts(remote_folder(), thread.run))
