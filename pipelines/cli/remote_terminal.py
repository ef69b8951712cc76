"""Shows a remote job in a terminal, and cancels it on Ctrl-C."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from ..errors import RemoteError
from ..remote.accounts import account_at
from ..remote.fal import Fal
from ..remote.job_event import JobEvent
from ..remote.job_record import Job
from ..remote.novita import Novita
from ..remote.remote_thread import RemoteThread, Ticket
from ..remote.settings import Addresses

__all__ = ["NewsLine", "follow", "open_account"]

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
