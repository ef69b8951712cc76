"""Ranks are processes that end together: the one that failed is named, and none is left."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import rank_works

from wan_duet.pipelines.errors import RankError
from wan_duet.pipelines.parallel.rank_processes import run_ranks

CPUS = ("cpu", "cpu")


def wait_until(happened: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < until, "nothing happened for a minute"
        time.sleep(0.05)


def test_rank_0_answers() -> None:
    assert run_ranks(rank_works.names, ["greetings"], CPUS) == "greetings from rank 0 on cpu"


@pytest.mark.parametrize("bad", [0, 1])
def test_a_rank_that_fails_is_named_and_ends_the_others(bad: int) -> None:
    pids: list[int] = []
    with pytest.raises(
        RankError, match=rf"^rank {bad} \(cpu\): the low-noise expert produced NaN; the other"
    ):
        run_ranks(rank_works.fails_on, [bad], CPUS, started=pids.extend)
    assert len(pids) == 2
    assert not any(psutil.pid_exists(pid) for pid in pids)


@pytest.mark.skipif(sys.platform == "win32", reason="a process of Windows cannot be killed by a signal")
def test_a_rank_that_is_killed_in_an_exchange_is_named_and_nothing_hangs() -> None:
    """Its partner notices too, but only as a consequence."""
    with pytest.raises(RankError, match=r"^rank 1 \(cpu\): its process was ended by SIGKILL"):
        run_ranks(rank_works.dies_in_an_exchange, [], CPUS)


def test_an_interrupt_ends_all_and_lets_rank_0_clean_up(tmp_path: Path) -> None:
    pids: list[int] = []

    def interrupt() -> None:
        wait_until(lambda: len(list(tmp_path.glob("pid-*"))) == 2)
        _interrupt_main()

    thread = threading.Thread(target=interrupt)

    def started(found: object) -> None:
        pids.extend(found)  # type: ignore[call-overload]
        thread.start()

    with pytest.raises(KeyboardInterrupt):
        run_ranks(rank_works.sleeps, [tmp_path], CPUS, started=started)
    thread.join()
    assert (tmp_path / "stopped-0").exists()
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_ranks_of_a_killed_command_end_by_themselves(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "import rank_works; from pathlib import Path\n"
        "from wan_duet.pipelines.parallel.rank_processes import run_ranks\n"
        "run_ranks(rank_works.sleeps, [Path(sys.argv[1])], ('cpu', 'cpu'))\n"
    )
    command = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)])
    wait_until(lambda: len([file for file in tmp_path.glob("pid-*") if file.read_text()]) == 2)
    pids = [int(file.read_text()) for file in tmp_path.glob("pid-*")]
    command.kill()
    command.wait()
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids))
    assert (tmp_path / "stopped-0").exists()


def _interrupt_main() -> None:
    import _thread

    _thread.interrupt_main()
