"""Buys the rows of a batch at fal, through the journal of purchases, so that no row is bought twice.

What was bought stays in a folder of its own, where the journal of purchases knows it: an attempt after a
crash finds the file there, or the job that is still open, and pays nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from concurrent import futures
from pathlib import Path

from ..remote.job_event import JobEvent
from ..remote.job_record import Job, Order
from ..remote.order import order_for, uploading
from ..remote.payload import Prepared
from ..remote.provider import Provider
from ..remote.remote_thread import RemoteThread, Ticket
from ..remote.spending import Spending
from ..request.base import WanRequest
from ..request.report import Finding
from ..video.output import sidecar
from .worker import BOUGHT, LeftRunning, MadeFile, Needs, Task, frames_times_steps

__all__ = ["FalPlace"]

_POLL_S = 0.5


class FalPlace:
    """One of the workers that buy at fal; several share thread and account.

    bought: folder of the files. found: reads what the LoRA files of a request say of themselves.
    """

    place = BOUGHT
    lease_s = memory_bytes = None  # it waits in this process

    def __init__(
        self,
        name: str,
        thread: RemoteThread,
        account: Provider,
        spending: Spending,
        bought: Path,
        found: Callable[[WanRequest], Sequence[Finding]] = lambda _: (),
    ) -> None:
        self.name, self._thread, self._account, self._spending = name, thread, account, spending
        self._bought, self._found = bought, found

    def check(self, request: WanRequest) -> Needs:
        """Return the most that the request may cost, and its findings. Its work is frames times steps.

        Raises RequestError with everything that fal cannot do.
        """
        order, _ = self._order(request, "checked")
        return Needs(frames_times_steps(request), usd=order.price.high, findings=order.findings)

    def make(self, task: Task) -> MadeFile:
        """Buy the row, or find it bought. Raises as `RemoteThread.buy`."""
        order, prepared = self._order(task.request, task.name)
        self._bought.mkdir(exist_ok=True)
        ticket = self._thread.buy(
            order,
            self._account,
            limits=self._spending.limits,
            prepare=uploading(prepared, self._account),
            on_event=_ignore,
        )
        return _linked(Path(str(_followed(ticket, task).file_path)), task)

    def close(self) -> None:
        """Leave open jobs to the next process: they are paid for."""

    def _order(self, request: WanRequest, name: str) -> tuple[Order, Prepared]:
        return order_for(
            request,
            "fal",
            self._bought / f"{name}.mp4",  # it gets the suffix of what arrives
            prices=self._spending.prices,
            found=self._found(request),
        )


def _followed(ticket: Ticket, task: Task) -> Job:
    """Wait for the job. A row that is taken away, or cancelled, stops it at fal; LeftRunning does not."""
    try:
        while not ticket.done.done():
            task.beat()
            futures.wait([ticket.done], timeout=_POLL_S)
    except LeftRunning:
        raise
    except BaseException:
        ticket.stop()
        raise
    return ticket.done.result()


def _linked(file: Path, task: Task) -> MadeFile:
    """Give the bought file and its receipt a second name in the folder of the task."""
    made = task.folder / f"{task.name}{file.suffix}"
    for source, place in ((file, made), (sidecar(file), sidecar(made))):
        _link(source, place)
    return MadeFile(made, None)


def _link(source: Path, place: Path) -> None:
    try:
        os.link(source, place)
    except OSError:  # a disk without links
        shutil.copyfile(source, place)


def _ignore(event: JobEvent) -> None:
    del event
