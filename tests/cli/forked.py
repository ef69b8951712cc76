"""Commands in a process of their own, to be killed there.

Where a process can be forked, it need not import torch and diffusers again, which takes many times as long as
what these commands do.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

from wan_duet.pipelines.cli import main

CAN_FORK = sys.platform == "linux"  # libraries of macOS end a fork that uses them


@dataclass(frozen=True)
class Running:
    """A command that runs. stderr: what it says, line by line."""

    pid: int
    stderr: TextIO

    def code(self) -> int:
        """Wait for its exit code; of one that a signal ended, the negative signal."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@contextmanager
def running(*arguments: str) -> Iterator[Running]:
    """Run `wan-duet` with these arguments. Its end is awaited by `Running.code`."""
    if not CAN_FORK:
        command = [sys.executable, "-m", "wan_duet", *arguments]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        with process.stderr as stderr:
            yield Running(process.pid, stderr)
        return
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.dup2(writing, 2)
            os.close(reading)
            sys.stderr = os.fdopen(2, "w", buffering=1)
            code = main([*arguments])
        finally:
            sys.stderr.flush()
            os._exit(code)  # what pytest would do at its end is not done here
    os.close(writing)
    with os.fdopen(reading) as stderr:
        yield Running(pid, stderr)
