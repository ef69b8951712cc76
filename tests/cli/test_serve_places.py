"""Where `wan-duet serve` runs jobs: flags that mean nothing are refused, the overflow buys at fal once."""

from __future__ import annotations

import argparse
import threading
from pathlib import Path

import pytest

from wan_duet.pipelines.cli import main
from wan_duet.pipelines.cli.serve_places import purchases_of
from wan_duet.pipelines.fleet.batch_folder import BatchFolder
from wan_duet.pipelines.request import parse
from wan_duet.pipelines.service.client_keys import ServiceClient
from wan_duet.pipelines.service.job_queue import JobQueue, PostedJob
from wan_duet.pipelines.service.lane import Lane, LaneProgress
from wan_duet.pipelines.service.overflow import Overflow

from ..servers.fal import FalServer


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--overflow", "fal"], "--overflow-usd-per-day: not given"),
        (["--overflow-usd-per-day", "5"], "--overflow-usd-per-day: given alone"),
        (["--address", "127.0.0.1:1"], "--address, --insecure: given with --on local"),
    ],
)
def test_flags_that_mean_nothing_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    command = ["serve", "--model", "toy", "-o", str(tmp_path / "out"), "--folder", str(tmp_path)]
    assert main([*command, *flags]) == 2
    assert said in capsys.readouterr().err


def test_a_job_above_the_queue_is_bought_at_fal_once_also_after_a_restart(
    tmp_path: Path, folder: Path, server: FalServer
) -> None:
    out = BatchFolder(tmp_path / "out")
    given = {"folder": folder, "output": out.path, "overflow": "fal"}
    options = argparse.Namespace(**given, overflow_above=0, overflow_usd_per_day=5.0)
    queue = JobQueue(out.path / "service.sqlite", lambda: 1_800_000_000.0)
    asked = PostedJob(parse("text-to-video", {"prompt": "a red ball", "seed": 7}), {})
    job, _ = queue.accept("ann", asked, None, lambda: None)
    for restart in (False, True):
        with purchases_of(options) as purchases:
            assert purchases is not None
            overflow = Overflow(queue, clients, lambda one: purchases.workers[0].check(one).usd, 0, 5.0)
            lane = Lane(purchases.workers[0], queue, out, LaneProgress(), overflow)
            if restart:
                assert lane._work_once()
            else:  # the process ends while fal works
                stopping = threading.Timer(0.5, lane._stopping.set)
                stopping.start()
                server.run_looks = 10**6
                assert lane._work_once()
                stopping.join()
                assert queue.find("ann", job.name).state == "waiting"
        server.run_looks = 0
    done = queue.find("ann", job.name)
    assert (done.state, done.place, len(server.jobs)) == ("done", "fal-1", 1)
    assert done.usd > 0
    assert out.holds(done)


def clients() -> list[ServiceClient]:
    return [ServiceClient("ann", "")]
