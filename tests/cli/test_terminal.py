"""What a command says when it ends, and with which code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from wan_duet.pipelines.cli.terminal import run_command
from wan_duet.pipelines.errors import MediaError, ModelError, RequestError, WanDuetError


def ended(error: Callable[[], object]) -> tuple[int, list[WanDuetError]]:
    """The exit code of a command that fails like that, and what was shown."""
    shown: list[WanDuetError] = []

    def command() -> int:
        error()
        return 0

    return run_command(command, shown.append), shown


def fails(error: BaseException) -> Callable[[], object]:
    def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    "error",
    [
        fails(MemoryError()),
        fails(torch.cuda.OutOfMemoryError("Allocation on device 0")),
        lambda: torch.empty(2**60, dtype=torch.uint8),
        fails(RuntimeError("MPS backend out of memory (MPS allocated: 17.85 GB, max allowed: 18.13 GB)")),
    ],
    ids=["Python", "CUDA", "CPU", "MPS"],
)
def test_memory_that_runs_out_is_said_in_words_on_every_device(error: Callable[[], object]) -> None:
    code, (shown,) = ended(error)
    assert code == 1
    assert isinstance(shown, ModelError)
    assert "out of memory; try" in str(shown)


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(RuntimeError, match="a shape is wrong"):
        ended(fails(RuntimeError("a shape is wrong")))


def test_a_file_that_cannot_be_written_is_named() -> None:
    code, (shown,) = ended(Path("/nonexistent/a.mp4").touch)
    assert code == 1
    assert isinstance(shown, MediaError)
    assert "/nonexistent/a.mp4: No such file" in str(shown)


def test_a_wrong_request_and_a_failure_have_codes_of_their_own() -> None:
    assert ended(fails(RequestError.of("prompt", "empty", "give one")))[0] == 2
    assert ended(fails(ModelError("no such model")))[0] == 1
    assert ended(fails(KeyboardInterrupt()))[0] == 130
    assert ended(lambda: None) == (0, [])


# An answer that waits in the buffer until the end, one that is written line by line, and one of argparse.
@pytest.mark.parametrize(
    ("arguments", "unbuffered"), [(["kinds"], ""), (["kinds"], "1"), (["media", "--help"], "")]
)
@pytest.mark.parametrize("together", [False, True], ids=["stdout", "stdout and stderr"])
def test_a_closed_pipe_ends_a_command_quietly(arguments: list[str], unbuffered: str, together: bool) -> None:
    """As in `wan-duet kinds | head -2`."""
    command = [sys.executable, "-m", "wan_duet", *arguments]
    stderr = subprocess.STDOUT if together else subprocess.PIPE
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=environment) as process:
        assert process.stdout is not None
        process.stdout.close()
        said = b"" if process.stderr is None else process.stderr.read()
        assert process.wait() == 141
    assert said == b""


def test_another_closed_pipe_is_an_error() -> None:
    code, (shown,) = ended(fails(BrokenPipeError(32, "Broken pipe", "fifo")))
    assert code == 1
    assert "fifo: Broken pipe" in str(shown)
