"""What ranks of the tests do, in processes of their own."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from wan_duet.pipelines.errors import SamplingError
from wan_duet.pipelines.parallel.rank_processes import RankPlace


def names(place: RankPlace, greeting: str) -> str:
    return f"{greeting} from rank {place.rank} on {place.devices[place.rank]}"


def fails_on(place: RankPlace, bad: int) -> None:
    if place.rank == bad:
        raise SamplingError("the low-noise expert produced NaN")
    time.sleep(60)


def sleeps(place: RankPlace, folder: Path) -> None:
    """Rank 0 leaves a file that says that it was stopped in order, and so could remove its files."""
    (folder / f"pid-{place.rank}").write_text(str(os.getpid()))
    try:
        while True:
            time.sleep(0.1)
    except KeyboardInterrupt:
        (folder / f"stopped-{place.rank}").touch()
        raise


def dies_in_an_exchange(place: RankPlace) -> None:
    """Rank 1 is killed while the others wait for its tensors."""
    import torch

    from wan_duet.pipelines.parallel.gpu_world import join_world
    from wan_duet.pipelines.plan.gpu_layout import GpuLayout

    world = join_world(place.rank, place.devices, place.store)
    ranks = world.arrange(GpuLayout(True, 1))
    ranks.from_first(torch.zeros(3))
    if place.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    ranks.from_first(torch.zeros(3))
