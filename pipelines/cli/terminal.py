"""Shows progress on stderr, maps errors to exit codes, and ends cleanly when the user stops a command."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, TextIO

from tqdm import tqdm

from ..errors import MediaError, ModelError, RequestError, WanDuetError, is_out_of_memory

if TYPE_CHECKING:
    from torch import Tensor

    from ..request.report import Finding

__all__ = [
    "TerminalProgress",
    "agreed",
    "print_findings",
    "quiet_pipes",
    "run_command",
    "stop_signals",
    "stopped_by_sigterm",
]

_CLOSED_PIPE = 141  # 128 + SIGPIPE, what a shell reports for a program that the signal ended


def print_findings(findings: Sequence[Finding]) -> None:
    """Print on stderr what a run does otherwise than asked, or otherwise than its user may expect."""
    for finding in findings:
        print(finding.line(), file=sys.stderr, flush=True)


def agreed(question: str, *, yes: bool, ask: Callable[[str], str] = input) -> bool:
    """Ask the user. yes: the flag --yes. Raises RequestError if nobody can answer."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise RequestError.of("--yes", f"not set, and nobody can answer: {question}", "add --yes")
    print(question, "[y/N] ", end="", file=sys.stderr, flush=True)
    return ask("").strip().lower() in ("y", "yes")


class TerminalProgress:
    """Shows a bar per stage, or a line per stage if `stream` is not a terminal.

    `check` does nothing, because Ctrl-C raises KeyboardInterrupt by itself.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._started = stream, 0.0
        self._stage, self._total, self._unit = "", 0, ""
        self._bar: tqdm[object] | None = None

    def begin(self, stage: str, total: int, unit: str) -> None:
        self._stage, self._total, self._unit, self._started = stage, total, unit, time.monotonic()
        if self._stream.isatty():
            self._bar = tqdm(total=total, desc=stage, unit=f" {unit}", file=self._stream, leave=True)
        else:
            print(f"{stage}: {total} {unit}", file=self._stream, flush=True)

    def advance(self, done: int, preview: Callable[[], Tensor] | None = None) -> None:
        del preview
        if self._bar is not None:
            self._bar.update(done - self._bar.n)
            if done >= self._total:
                self._bar.close()
                self._bar = None
        elif done >= self._total:
            print(
                f"{self._stage}: done in {time.monotonic() - self._started:.1f} s",
                file=self._stream,
                flush=True,
            )

    def check(self) -> None:
        return


@contextmanager
def quiet_pipes() -> Iterator[None]:
    """End the program without a message when stdout or stderr was closed, as `head` closes its input.

    Raises SystemExit with code 141 then.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError as error:
        if error.filename is not None:
            raise
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())  # or Python complains when it flushes the stream at its exit
        raise SystemExit(_CLOSED_PIPE) from None


def run_command(command: Callable[[], int], show: Callable[[WanDuetError], None]) -> int:
    """Run a command and return its exit code: its own, 1 for a failure, 2 for a wrong request, 130 after a
    stop.

    show: prints an error. Errors of the machine (files, memory) are shown as ours, without a traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a legacy console must not break on a prompt
    try:
        with stopped_by_sigterm():
            return command()
    except KeyboardInterrupt:
        sys.stderr.write("Stopped.\n")
        return 130
    except (WanDuetError, OSError, MemoryError, RuntimeError) as error:
        if isinstance(error, BrokenPipeError) and error.filename is None:
            raise  # stdout or stderr: see `quiet_pipes`
        ours = _as_ours(error)
        if ours is None:
            raise
        show(ours)
        return 2 if isinstance(ours, RequestError) else 1


def _as_ours(error: Exception) -> WanDuetError | None:
    if isinstance(error, WanDuetError):
        return error
    if isinstance(error, OSError):
        return MediaError(f"{error.filename or 'a file'}: {error.strerror or error}")
    if is_out_of_memory(error):
        return ModelError("out of memory; try a smaller size, fewer frames, or precision bf16")
    return None


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C, so that no partial file remains. For the main thread."""

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in stop_signals(vars(signal))}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_signals(known: Mapping[str, object]) -> list[signal.Signals]:
    """Return the signals with which a terminal, a service manager or a parent ends a program. known: names on
    this system.

    Not SIGHUP: a remote shell that disconnects would stop a paid job.
    """
    found = (known.get(name) for name in ("SIGTERM", "SIGBREAK"))  # SIGBREAK: Ctrl-Break on Windows
    return [number for number in found if isinstance(number, signal.Signals)]
