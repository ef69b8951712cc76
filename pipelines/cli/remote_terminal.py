"""Buys a remote job and shows it in a terminal. Ctrl-C cancels it."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from ..errors import RemoteError
from ..remote.accounts import account_at
from ..remote.fal import Fal
from ..remote.job_event import JobEvent
from ..remote.job_record import Job, Order
from ..remote.novita import Novita
from ..remote.order import uploading
from ..remote.payload import Prepared
from ..remote.remote_receipt import remote_receipt
from ..remote.remote_thread import RemoteThread, Ticket
from ..remote.settings import Addresses
from ..remote.spending_limits import SpendingLimits

__all__ = ["NewsLine", "buy_and_follow", "follow", "open_account", "print_job"]

_POLL_S = 0.5  # how often the wait is interrupted; else Windows would not deliver Ctrl-C
_CANCEL_S = 10.0  # how long Ctrl-C waits for the provider before the rest is left to the next start


class NewsLine:
    """Shows one line that changes, or a line per step if `stream` is not a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._step = stream, ""

    def __call__(self, event: JobEvent) -> None:
        if self._stream.isatty():
            self._stream.write(f"\r\x1b[K{event.text()}")
        elif event.step != self._step:
            self._stream.write(f"{event.text()}\n")
        self._step = event.step
        self._stream.flush()

    def end(self) -> None:
        if self._step and self._stream.isatty():
            self._stream.write("\n")


@contextmanager
def open_account(
    provider: str, folder: Path, addresses: Addresses | None = None
) -> Iterator[tuple[RemoteThread, Fal | Novita]]:
    """Yield the remote thread for the journal in `folder`, and the user's account on it.

    Raises KeyProblemError without a key.
    """

    async def connect() -> Fal | Novita:
        return account_at(provider, folder, addresses=addresses)

    thread = RemoteThread(folder)
    try:
        account: Fal | Novita = thread.run(connect())
        try:
            yield thread, account
        finally:
            thread.run(account.close())
    finally:
        thread.close()


def buy_and_follow(
    thread: RemoteThread,
    account: Fal | Novita,
    order: Order,
    prepared: Prepared,
    limits: SpendingLimits,
    options: argparse.Namespace,
) -> Job:
    """Buy an order, or find it bought, and return its job when the file is there."""
    line = NewsLine(sys.stderr)
    ticket = thread.buy(
        order,
        account,
        limits=limits,
        prepare=uploading(prepared, account),
        on_event=line,
        reuse=not options.no_reuse,
        resubmit=options.resubmit,
    )
    try:
        return follow(ticket, sys.stderr)
    finally:
        line.end()


def print_job(job: Job, about: Mapping[str, Any], *, as_json: bool) -> None:
    """Print the file of a job; as JSON what is to be said `about` it, its id and its receipt."""
    if not as_json:
        print(job.file_path)
        return
    answer = {**about, "job": job.job_id, "receipt": remote_receipt(job)}
    print(json.dumps(answer, indent=2, ensure_ascii=False))


def follow(ticket: Ticket, stream: TextIO, wait: Callable[..., object] = futures.wait) -> Job:
    """Wait for a job. Ctrl-C stops it, prints its state, and raises KeyboardInterrupt.

    If the provider cannot stop it, Ctrl-C says so at once.
    """
    try:
        while not ticket.done.done():
            wait([ticket.done], timeout=_POLL_S)
    except KeyboardInterrupt:
        stream.write("\nStopping the job at the provider ...\n" if ticket.can_stop else _goes_on(ticket))
        ticket.stop()
        wait([ticket.done], timeout=_CANCEL_S)
        stream.write(f"{_fate(ticket)}\n")
        raise
    return ticket.done.result()


def _goes_on(ticket: Ticket) -> str:
    return (
        "\nThe provider cannot stop a job it has accepted: it goes on and is billed. The same request, or "
        f"`wan-duet jobs attach {ticket.job_id[:8]}`, saves its file and buys nothing.\n"
    )


def _fate(ticket: Ticket) -> str:
    if not ticket.done.done():
        return f"No answer yet; see `wan-duet jobs show {ticket.job_id[:8]}`."
    error = ticket.done.exception()
    if error is None:
        return f"It was finished already: {ticket.done.result().file_path}"
    if not isinstance(error, RemoteError):
        logging.getLogger(__name__).error("job %s: %s", ticket.job_id[:8], error)
    return str(error)
