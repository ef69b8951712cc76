"""Brings units: ahead of their use in a thread of its own, or just before it in the thread that uses them."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch

from .transfer import Mark
from .unit_schedule import Load, Timetable

__all__ = ["Reader", "Stopped"]

_LOOK_S = 0.05  # how often somebody who waits looks whether the user wants to stop


Bring = Callable[[Load, Mark, Callable[[], None]], Mark]


class Stopped(Exception):  # noqa: N818
    """Nobody waits for this unit any more."""


class Reader:
    """Makes the loads of a timetable, in order, as soon as their slots are free.

    What goes wrong in the thread is raised where the next unit is asked for.
    """

    def __init__(self, timetable: Timetable, bring: Bring, *, ahead: bool = True) -> None:
        """bring: (load, mark after which its slot is free, stop check) -> mark from which on it is there.
        ahead: False makes each load when it is asked for, in the thread that asks.
        """
        self._loads, self._bring = timetable.loads, None if ahead else bring
        self._changed = threading.Condition()
        self._ready: dict[int, Mark] = {}
        self._over: list[Mark] = []  # a mark for every use that is over
        self._error: BaseException | None = None
        self._stop = False
        self._thread: threading.Thread | None = None
        if self._loads and ahead:
            # The thread alone holds `bring`, which may hold whoever holds this: it ends with the thread.
            self._thread = threading.Thread(
                target=self._run, args=(bring,), name="wan-duet weights", daemon=True
            )
            self._thread.start()

    def ready(self, load: int, check: Callable[[], None]) -> Mark:
        """Wait for the `load`th load. check: called while waiting, and may stop it."""
        if self._bring is not None and load not in self._ready:
            self._ready[load] = self._bring(self._loads[load], self._free_after(self._loads[load]), check)
        while True:
            with self._changed:
                if self._error is not None:
                    raise self._error
                if load in self._ready:
                    return self._ready[load]
                self._changed.wait(_LOOK_S)
            check()

    def over(self, use: int, mark: Mark) -> None:
        """`use` and all before it are over; `mark` says when."""
        with self._changed:
            self._over.extend([mark] * (use + 1 - len(self._over)))
            self._changed.notify_all()

    def close(self) -> None:
        """Stop at the next tensor, and wait until the thread is gone."""
        with self._changed:
            self._stop, self._bring = True, None
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _run(self, bring: Bring) -> None:
        try:
            with torch.inference_mode():  # each thread for itself
                for number, load in enumerate(self._loads):
                    self._make(number, load, bring)
        except Stopped:
            return
        except BaseException as error:  # it is raised again where somebody waits
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _make(self, number: int, load: Load, bring: Bring) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stop or load.after < len(self._over))
            if self._stop:
                raise Stopped
            if load.last < len(self._over):
                return  # its uses were skipped
            after = self._free_after(load)
        mark = bring(load, after, self._check)
        with self._changed:
            self._ready[number] = mark
            self._changed.notify_all()

    def _free_after(self, load: Load) -> Mark:
        return self._over[load.after] if load.after >= 0 else None

    def _check(self) -> None:
        if self._stop:
            raise Stopped
