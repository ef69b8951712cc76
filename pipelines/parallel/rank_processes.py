"""Starts one process (rank) for each device, and ends all of them when one ends or the user stops the run.

Processes are spawned, not forked: each has its own allocator, and inherits no CUDA context.
"""

from __future__ import annotations

import _thread
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from ..errors import RankError, RankLostError, WanDuetError, is_out_of_memory

if sys.platform == "win32":
    from multiprocessing.connection import PipeConnection as Connection
else:
    from multiprocessing.connection import Connection

__all__ = ["RankPlace", "run_ranks"]

_CAUSE_S = 5.0  # how long the cause is waited for when a rank only says that it lost another one
_LOOK_S = 0.5  # Ctrl-C does not end a wait on Windows
_GRACE_S = 20.0  # how long rank 0 may take to remove its unfinished files


@dataclass(frozen=True)
class RankPlace:
    """A rank before it joins the others. store: the file where they meet; see `join_world`."""

    rank: int
    devices: tuple[str, ...]
    store: Path


@dataclass(frozen=True)
class _Ending:
    """How a rank ended. value: what rank 0 returned, or the reason."""

    kind: Literal["done", "failed", "lost", "stopped"]
    value: Any = None


@dataclass(frozen=True)
class _Started:
    rank: int
    device: str
    process: SpawnProcess
    pipe: Connection

    def ending(self) -> _Ending | None:
        """Return how the rank ended, None while it runs."""
        ended = not self.process.is_alive()
        with suppress(EOFError, OSError):
            if self.pipe.poll():
                told: _Ending = self.pipe.recv()
                return told
        return _Ending("failed", _how(self.process.exitcode)) if ended else None


def run_ranks(
    work: Callable[..., Any],
    arguments: Sequence[Any],
    devices: Sequence[str],
    *,
    started: Callable[[Sequence[int]], object] = lambda _: None,
) -> Any:
    """Call work(RankPlace, *arguments) in one process for each device, and return what rank 0 returns.

    work, arguments: can be pickled; `work` is a function at the top level of a module.
    started: is told the ids of the processes.

    Raises RankError, which names the first rank that failed or ended, after all others have ended. An
    interrupt ends all of them too. When this process is killed, the ranks end by themselves.
    """
    with TemporaryDirectory(prefix="wan-duet-ranks-") as folder:
        ranks: list[_Started] = []
        try:
            for rank, device in enumerate(devices):
                place = RankPlace(rank, tuple(devices), Path(folder) / "store")
                ours, theirs = multiprocessing.Pipe()
                process = multiprocessing.get_context("spawn").Process(
                    target=_rank_main, args=(theirs, place, work, tuple(arguments))
                )
                process.start()
                theirs.close()
                ranks.append(_Started(rank, device, process, ours))
            started([rank.process.pid or 0 for rank in ranks])
            result = _result(ranks)
            for started_rank in ranks:
                started_rank.process.join(_GRACE_S)  # before its pipe closes, which would interrupt it
            return result
        finally:
            _end(ranks)


def _result(ranks: Sequence[_Started]) -> Any:
    """Wait for all ranks, and return the value of rank 0. Raises RankError."""
    endings: dict[int, _Ending] = {}
    while len(endings) < len(ranks) and all(ending.kind == "done" for ending in endings.values()):
        _collect(ranks, endings, _LOOK_S)
    until = time.monotonic() + _CAUSE_S
    while _cause(endings) is None and (left := until - time.monotonic()) > 0 and len(endings) < len(ranks):
        _collect(ranks, endings, left)
    bad = _cause(endings)
    if bad is None:
        bad = next((rank for rank in sorted(endings) if endings[rank].kind != "done"), None)
    if bad is None:
        return endings[0].value
    if endings[bad].kind == "stopped":
        raise KeyboardInterrupt
    others = "the other ones were ended" if len(ranks) > 2 else "the other one was ended"
    raise RankError(f"rank {bad} ({ranks[bad].device}): {endings[bad].value}; {others}")


def _cause(endings: Mapping[int, _Ending]) -> int | None:
    """Return the first rank that ended by itself, and not because it lost another one."""
    return next((rank for rank in sorted(endings) if endings[rank].kind in ("failed", "stopped")), None)


def _collect(ranks: Sequence[_Started], endings: dict[int, _Ending], timeout_s: float) -> None:
    """Wait until a rank ends, but no longer than `timeout_s`, and add how it did."""
    running = [rank for rank in ranks if rank.rank not in endings]
    wait([each for rank in running for each in (rank.pipe, rank.process.sentinel)], timeout_s)
    for rank in running:
        if (ending := rank.ending()) is not None:
            endings[rank.rank] = ending


def _end(ranks: Sequence[_Started]) -> None:
    """End every rank that still runs: the others first, so that rank 0 is not left waiting for them."""
    for rank in reversed(ranks):
        rank.pipe.close()  # which its thread notices
    for rank in ranks:
        rank.process.join(_GRACE_S)
        if rank.process.is_alive():
            rank.process.kill()
            rank.process.join()


def _how(exit_code: int | None) -> str:
    """Describe the end of a process that said nothing."""
    if exit_code is None or exit_code >= 0:
        return f"its process ended with exit code {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    memory = "; perhaps the system ran out of memory" if name == "SIGKILL" else ""
    return f"its process was ended by {name}{memory}"


def _rank_main(
    pipe: Connection, place: RankPlace, work: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    """Run `work` in its own process, and tell the parent how it ended."""
    if place.rank:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent ends this rank
    finished, ending = threading.Event(), _Ending("stopped")

    def watched() -> Any:
        threading.Thread(target=_end_with_parent, args=(pipe, place.rank, finished), daemon=True).start()
        return work(place, *arguments)

    try:
        ending = _ending_of(watched, first=place.rank == 0)
        finished.set()
        with suppress(OSError):  # the parent has ended
            pipe.send(ending)
    finally:
        if ending.kind != "done":
            sys.stderr.flush()
            os._exit(1)  # a process group whose other ranks are gone may never let go


def _ending_of(work: Callable[[], Any], *, first: bool) -> _Ending:
    try:
        value = work()
        return _Ending("done", value if first else None)
    except KeyboardInterrupt:
        return _Ending("stopped")
    except RankLostError as error:
        return _Ending("lost", str(error))
    except Exception as error:
        if isinstance(error, WanDuetError):
            return _Ending("failed", str(error))
        if is_out_of_memory(error):
            return _Ending("failed", "out of memory; try a smaller size, fewer frames, or precision bf16")
        traceback.print_exc(file=sys.stderr)
        return _Ending("failed", f"{type(error).__name__}: {error}")


def _end_with_parent(pipe: Connection, rank: int, finished: threading.Event) -> None:
    """End this rank when the parent closes its end of the pipe, or is killed."""
    with suppress(EOFError, OSError):
        pipe.recv()
    if finished.is_set():
        return
    if rank:
        os._exit(1)  # it has no files
    _thread.interrupt_main()
    time.sleep(_GRACE_S)
    os._exit(1)
