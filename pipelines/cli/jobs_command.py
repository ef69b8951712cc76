"""`wan-duet jobs`: list, resume, cancel and forget jobs at providers, of this command and of ComfyUI."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from ..errors import JobStoppedError, KeyProblemError
from ..video.output import BOUGHT_SUFFIXES, require_known_suffix, require_place
from .subcommands import add_command, add_folder, add_group, folder_of

__all__ = ["add_jobs_command"]


def add_jobs_command(commands: Any) -> None:
    """Add `jobs` to the commands of an argument parser (what `add_subparsers` returned)."""
    text = "list the jobs at fal and Novita, wait for them, cancel or forget them"
    verbs = add_group(commands, "jobs", text)

    def verb(name: str, function: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        added = add_command(verbs, name, function, text)
        add_folder(added)
        return added

    listed = verb("list", _list, "print one line per job, the newest last")
    listed.add_argument("--open", action="store_true", help="only unfinished jobs")
    texts: dict[str, tuple[Callable[[argparse.Namespace], int], str]] = {
        "show": (_show, "print everything that is known about a job"),
        "attach": (
            _attach,
            "wait for a job and save its file; asks again about one that failed or was lost",
        ),
        "cancel": (_cancel, "stop a job at its provider; saves the file if the job is already finished"),
        "forget": (
            _forget,
            "remove a job from the journal; its cost no longer counts towards the limit of today",
        ),
    }
    for name, (function, text) in texts.items():
        parser = verb(name, function, text)
        parser.add_argument("job", metavar="JOB", help="the id of the job, or its first characters")
        if name == "attach":
            text = "where to save the file; default: where the job was to save it"
            parser.add_argument("-o", "--output", type=Path, metavar="OUT", help=text)


def _list(options: argparse.Namespace) -> int:
    from ..remote.job_actions import cost_text, job_facts, open_journal

    with open_journal(folder_of(options)) as journal:
        jobs = journal.jobs(open_only=options.open)
    if options.json:
        print(json.dumps([job_facts(job) for job in jobs], indent=2, ensure_ascii=False))
        return 0
    for job in jobs:
        when = datetime.fromtimestamp(job.created_at).strftime("%Y-%m-%d %H:%M")
        what = job.file_path if job.state == "done" else job.error or job.ordered("prompt") or ""
        print(f"{job.job_id[:8]}  {when}  {job.provider:<6}  {job.state:<10}  {cost_text(job):<22}  {what}")
    return 0


def _show(options: argparse.Namespace) -> int:
    from ..remote.job_actions import job_facts, open_journal

    with open_journal(folder_of(options)) as journal:
        facts = job_facts(journal.find(options.job))
    if options.json:
        print(json.dumps(facts, indent=2, ensure_ascii=False))
        return 0
    for name, value in facts.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        print(f"{name:<12}  {text}")
    return 0


def _attach(options: argparse.Namespace) -> int:
    if options.output is not None:
        if options.output.suffix.lower() != ".safetensors":  # of a training
            require_known_suffix(options.output, BOUGHT_SUFFIXES)
        require_place(options.output)
    return _bring_home(options, stop=False, out=options.output)


def _cancel(options: argparse.Namespace) -> int:
    try:
        return _bring_home(options, stop=True)
    except JobStoppedError as stopped:
        print(stopped)
        return 0


def _bring_home(options: argparse.Namespace, *, stop: bool, out: Path | None = None) -> int:
    """Wait for a job, here or while another process works on it, and print where its file is.

    out: a new place for the file of a job that is not done.
    """
    from ..remote.job_actions import cancel_job, job_facts, open_again
    from .remote_terminal import NewsLine, follow, open_account

    if stop:
        job = cancel_job(folder_of(options), options.job)
    else:
        job = open_again(folder_of(options), options.job, out)
    if job.is_open:
        line = NewsLine(sys.stderr)
        with open_account(job.provider, folder_of(options)) as (thread, account):
            if account.account != job.account:
                raise KeyProblemError(
                    f"job {job.job_id[:8]} was begun with another {job.provider} key; set that one"
                )
            try:
                job = follow(thread.attach(job.job_id, account, line), sys.stderr)
            finally:
                line.end()
    job.delivered()
    print(json.dumps(job_facts(job), indent=2, ensure_ascii=False) if options.json else job.file_path)
    return 0


def _forget(options: argparse.Namespace) -> int:
    from ..remote.job_actions import forget_job

    job = forget_job(folder_of(options), options.job)
    print(f"forgot {job.job_id}")
    if job.state == "completed":
        for file in job.outcome.files:
            print(f"not fetched: {file.url}")
    return 0
