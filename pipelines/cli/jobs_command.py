"""`wan-duet jobs`: list, resume, cancel and forget jobs at providers, of this command and of ComfyUI."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import JobStoppedError, JournalError, KeyProblemError

if TYPE_CHECKING:
    from ..remote.job_record import Job
    from ..remote.journal import Journal

__all__ = ["add_jobs_command"]


def add_jobs_command(commands: Any) -> None:
    """Add `jobs` to the commands of an argument parser (what `add_subparsers` returned)."""
    text = "list the jobs at fal and Novita, wait for them, cancel or forget them"
    jobs = commands.add_parser("jobs", help=text, description=text, allow_abbrev=False)
    verbs = jobs.add_subparsers(required=True, metavar="COMMAND")

    def verb(name: str, function: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = verbs.add_parser(
            name, help=text, description=text, allow_abbrev=False
        )
        added.set_defaults(command=function)
        added.add_argument("--json", action="store_true", help="answer with JSON on stdout")
        added.add_argument(
            "--folder",
            type=Path,
            help="folder of journal and keys; default: that of $COMFYUI_PATH, else that of the user",
        )
        return added

    listed = verb("list", _list, "print one line per job, the newest last")
    listed.add_argument("--open", action="store_true", help="only unfinished jobs")
    texts: dict[str, tuple[Callable[[argparse.Namespace], int], str]] = {
        "show": (_show, "print everything that is known about a job"),
        "attach": (_attach, "wait for a job and save its file"),
        "cancel": (_cancel, "stop a job at its provider; saves the file if the job is already finished"),
        "forget": (
            _forget,
            "remove a job from the journal; its cost no longer counts towards the limit of today",
        ),
    }
    for name, (function, text) in texts.items():
        verb(name, function, text).add_argument(
            "job", metavar="JOB", help="the id of the job, or its first characters"
        )


def _list(options: argparse.Namespace) -> int:
    with _journal(options) as journal:
        jobs = journal.jobs(open_only=options.open)
    if options.json:
        print(json.dumps([_facts(job) for job in jobs], indent=2, ensure_ascii=False))
        return 0
    for job in jobs:
        when = datetime.fromtimestamp(job.created_at).strftime("%Y-%m-%d %H:%M")
        what = job.file_path if job.state == "done" else job.error or job.ordered("prompt") or ""
        print(f"{job.job_id[:8]}  {when}  {job.provider:<6}  {job.state:<10}  {_cost(job):<22}  {what}")
    return 0


def _show(options: argparse.Namespace) -> int:
    with _journal(options) as journal:
        facts = _facts(journal.find(options.job))
    if options.json:
        print(json.dumps(facts, indent=2, ensure_ascii=False))
        return 0
    for name, value in facts.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        print(f"{name:<12}  {text}")
    return 0


def _attach(options: argparse.Namespace) -> int:
    return _bring_home(options, stop=False)


def _cancel(options: argparse.Namespace) -> int:
    try:
        return _bring_home(options, stop=True)
    except JobStoppedError as stopped:
        print(stopped)
        return 0


def _bring_home(options: argparse.Namespace, *, stop: bool) -> int:
    """Wait for a job, here or while another process works on it, and print where its file is."""
    from .remote_terminal import NewsLine, follow, open_account

    with _journal(options) as journal:
        job = journal.find(options.job)
        if stop:
            journal.ask_to_stop(job.job_id)
    if job.is_open:
        line = NewsLine(sys.stderr)
        with open_account(job.provider, _folder(options)) as (thread, account):
            if account.account != job.account:
                raise KeyProblemError(
                    f"job {job.job_id[:8]} was begun with another {job.provider} key; set that one"
                )
            try:
                job = follow(thread.attach(job.job_id, account, line), sys.stderr)
            finally:
                line.end()
    job.delivered()
    print(json.dumps(_facts(job), indent=2, ensure_ascii=False) if options.json else job.file_path)
    return 0


def _forget(options: argparse.Namespace) -> int:
    with _journal(options) as journal:
        job = journal.find(options.job)
        if job.state in ("submitting", "submitted", "running"):
            raise JournalError(
                f"job {job.job_id[:8]} is {job.state} and may bring a file; `wan-duet jobs cancel` it first"
            )
        if _is_worked_on(job, _folder(options)):
            raise JournalError(f"job {job.job_id[:8]} is worked on by another process; stop that one first")
        journal.forget(job.job_id)
    print(f"forgot {job.job_id}")
    if job.state == "completed":
        for file in job.outcome.files:
            print(f"not fetched: {file.url}")
    return 0


def _is_worked_on(job: Job, folder: Path) -> bool:
    from ..remote.owner_lock import OwnerLock

    owner = OwnerLock(folder / "owners")
    try:
        return job.is_open and job.owner is not None and owner.is_alive(job.owner)
    finally:
        owner.retire()


def _folder(options: argparse.Namespace) -> Path:
    from ..download.folders import remote_folder

    folder: Path = options.folder or remote_folder()
    return folder


@contextmanager
def _journal(options: argparse.Namespace) -> Iterator[Journal]:
    import time

    from ..remote.journal import Journal

    journal = Journal(_folder(options) / "jobs.sqlite", time.time)
    try:
        yield journal
    finally:
        journal.close()


def _facts(job: Job) -> dict[str, Any]:
    """What is worth showing, ready for JSON; empty facts are left out."""
    facts = {
        "job": job.job_id,
        "provider": job.provider,
        "account": job.account,
        "endpoint": job.endpoint,
        "state": job.state,
        "stopping": job.is_open and job.stop_asked,
        "request_id": job.request_id,
        "created": _moment(job.created_at),
        "sent": _moment(job.sent_at),
        "closed": _moment(job.closed_at),
        "money": job.money,
        "estimate": job.price_text,
        "charged_usd": job.charged,
        "file": job.file_path,
        "sha256": job.sha256,
        "error": job.error,
        "payload": json.loads(job.payload_json),
    }
    return {name: value for name, value in facts.items() if value not in (None, False)}


def _cost(job: Job) -> str:
    if job.charged is not None:
        return f"${job.charged:.4f} charged"
    if job.money == "none spent":
        return "none spent" if not job.is_open else job.price_text.partition(" (")[0]
    return job.price_text.partition(" (")[0]


def _moment(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")
