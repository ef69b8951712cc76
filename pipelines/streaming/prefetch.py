"""Load units ahead of their use in a background thread, or on demand in the thread that uses them."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch

from .transfer import DeviceEvent
from .unit_schedule import Load, UnitSchedule

__all__ = ["Prefetcher", "Stopped"]

_LOOK_S = 0.05  # how often a waiting thread checks for a stop request


FillSlot = Callable[[Load, DeviceEvent, Callable[[], None]], DeviceEvent]


class Stopped(Exception):  # noqa: N818
    """Ends the thread: the prefetcher was closed."""


class Prefetcher:
    """Makes the loads of a schedule, in order, as soon as their slots are free.

    An error in the thread is raised again by the next `wait_for`.
    """

    def __init__(self, schedule: UnitSchedule, fill: FillSlot, *, ahead: bool = True) -> None:
        """fill:  (load, event after which its slot is free, stop check) -> event after which it is loaded.
        ahead: False makes each load in `wait_for`, without a thread.
        """
        self._loads, self._fill = schedule.loads, None if ahead else fill
        self._changed = threading.Condition()
        self._ready: dict[int, DeviceEvent] = {}
        self._finished: list[DeviceEvent] = []  # one event per finished use
        self._error: BaseException | None = None
        self._stop = False
        self._thread: threading.Thread | None = None
        if self._loads and ahead:
            # Only the thread keeps a reference to `fill`; storing it on self would create a reference cycle.
            self._thread = threading.Thread(
                target=self._run, args=(fill,), name="wan-duet weights", daemon=True
            )
            self._thread.start()

    def wait_for(self, load: int, check: Callable[[], None]) -> DeviceEvent:
        """Wait until load number `load` is made. check: called while waiting; may raise to stop."""
        if self._fill is not None and load not in self._ready:
            self._ready[load] = self._fill(self._loads[load], self._free_after(self._loads[load]), check)
        while True:
            with self._changed:
                if self._error is not None:
                    raise self._error
                if load in self._ready:
                    return self._ready[load]
                self._changed.wait(_LOOK_S)
            check()

    def finished(self, use: int, event: DeviceEvent) -> None:
        """Record that `use` and all earlier uses are finished at `event`."""
        with self._changed:
            self._finished.extend([event] * (use + 1 - len(self._finished)))
            self._changed.notify_all()

    def close(self) -> None:
        """Stop at the next tensor, and join the thread."""
        with self._changed:
            self._stop, self._fill = True, None
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _run(self, fill: FillSlot) -> None:
        try:
            with torch.inference_mode():  # inference mode is per thread
                for number, load in enumerate(self._loads):
                    self._make(number, load, fill)
        except Stopped:
            return
        except BaseException as error:  # `wait_for` raises it again
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _make(self, number: int, load: Load, fill: FillSlot) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stop or load.after < len(self._finished))
            if self._stop:
                raise Stopped
            if load.last < len(self._finished):
                return  # its uses were skipped
            after = self._free_after(load)
        event = fill(load, after, self._check)
        with self._changed:
            self._ready[number] = event
            self._changed.notify_all()

    def _free_after(self, load: Load) -> DeviceEvent:
        return self._finished[load.after] if load.after >= 0 else None

    def _check(self) -> None:
        if self._stop:
            raise Stopped
