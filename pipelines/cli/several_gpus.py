"""`wan-duet generate --gpus`: one process for each device, which compute one video together."""

from __future__ import annotations

import argparse
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..device.memory import DeviceMemory
from ..errors import RequestError
from ..parallel.device_names import devices_of, require_devices
from ..progress import Silent
from ..request.base import WanRequest
from ..request.parse import parse
from ..request.report import silent
from ..request.seeds import seed_of
from ..request.shots import is_film
from .request_flags import read_requests
from .run_flags import keeps_networks, output_places, showing_residency, worker_of

if TYPE_CHECKING:
    from ..parallel.gpu_world import GpuWorld
    from ..parallel.rank_processes import RankPlace

__all__ = [
    "add_gpus",
    "answers_of_gpus",
    "answers_of_torchrun",
    "link_between",
    "refuse_shots",
    "started_by_torchrun",
]

Answers = list[dict[str, Any]]

_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_ALONE = {
    "device": "leave it out: --gpus names the devices",
    "from_receipt": "use one device to repeat a run exactly",
    "compile": "leave it out: compiled blocks cannot exchange tokens",
    "as_requested": "leave it out: ranks would skip different blocks",
}


def add_gpus(parser: argparse.ArgumentParser) -> None:
    """Add --gpus."""
    parser.add_argument(
        "--gpus",
        type=_devices,
        metavar="0,1",
        help="compute one video on several devices at once: numbers of GPUs, or names such as cpu,cpu",
    )


def _devices(text: str) -> tuple[str, ...]:
    try:
        return devices_of(text)
    except RequestError as error:
        problem = error.problems[0]
        raise argparse.ArgumentTypeError(f"{problem.found}; {problem.fix}") from None


def started_by_torchrun(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether this process is one of several that torchrun started."""
    return all(name in environment for name in _TORCHRUN) and int(environment["WORLD_SIZE"]) > 1


def answers_of_gpus(options: argparse.Namespace) -> Answers:
    """Run the requests on options.gpus, and return what the command answers for each.

    Everything that needs no weights is checked here first. Raises what `local_run.run` raises before it
    loads anything, and RankError if a rank fails or ends.
    """
    from ..generate.gpu_choice import layout_of_run
    from ..parallel.rank_processes import run_ranks

    requests = _requests(options)
    require_devices(options.gpus)
    worker = worker_of(_with_device(options, "cpu"), keeps=False)
    for request in requests:
        ready = worker.check(request)
        layout_of_run(ready.model, ready.plan, len(options.gpus))
    documents = [(request.kind, request.document()) for request in requests]
    plain = argparse.Namespace(**{name: value for name, value in vars(options).items() if name != "command"})
    made: Answers = run_ranks(answers_of_rank, (plain, documents), options.gpus)
    return made


def answers_of_rank(
    place: RankPlace, options: argparse.Namespace, documents: Sequence[tuple[str, Mapping[str, Any]]]
) -> Answers:
    """Run the requests as one rank, in a process of its own."""
    from ..parallel.gpu_world import join_world, share_cores

    share_cores(place.devices)
    requests = [parse(kind, values) for kind, values in documents]
    return _run(options, requests, join_world(place.rank, place.devices, place.store))


def answers_of_torchrun(options: argparse.Namespace) -> Answers:
    """Run the requests as one of the processes of torchrun. Returns nothing but on rank 0.

    --gpus: the devices of one machine; default: its GPUs, or its CPU if there are none.
    """
    import torch

    from ..parallel.gpu_world import join_world

    local = int(os.environ["LOCAL_WORLD_SIZE"])
    default = (
        tuple(f"cuda:{number}" for number in range(local)) if torch.cuda.is_available() else ("cpu",) * local
    )
    here = options.gpus or default
    if len(here) != local:
        found = f"names {len(here)} devices, but torchrun started {local} processes on this machine"
        raise RequestError.of("--gpus", found, "give one device for each process")
    devices = here * (int(os.environ["WORLD_SIZE"]) // local)
    requests = _requests(options)
    return _run(options, requests, join_world(int(os.environ["RANK"]), devices, None))


def _requests(options: argparse.Namespace) -> list[WanRequest]:
    """Raises RequestError for what several devices cannot do."""
    for name, fix in _ALONE.items():
        if getattr(options, name):
            raise RequestError.of(f"--{name.replace('_', '-')}", "given together with several devices", fix)
    requests = read_requests(options)
    refuse_shots(requests[0])
    return requests


def refuse_shots(request: WanRequest) -> None:
    """Raise RequestError for several shots."""
    if is_film(request):
        fix = "run each shot as a request of its own, or use one device"
        raise RequestError.of("--gpus", "given for shots, which several devices cannot do yet", fix)


def link_between(devices: Sequence[str]) -> float:
    """Measure the bytes/s that each of these devices sends to the others."""
    from ..parallel.link_rate import link_of_rank
    from ..parallel.rank_processes import run_ranks

    rate: float = run_ranks(link_of_rank, (), devices)
    return rate


def _run(options: argparse.Namespace, requests: Sequence[WanRequest], world: GpuWorld) -> Answers:
    """Run the requests as one rank. Only rank 0 shows progress, writes and answers."""
    first, keeps = world.rank == 0, keeps_networks(requests)
    worker = replace(
        worker_of(_with_device(options, world.device), keeps=keeps),
        memory=DeviceMemory(world.device, keeps=keeps, sharers=world.devices.count(world.device)),
        world=world,
    )
    requests = _with_seeds(requests, world)
    if not first:
        worker = replace(worker, progress=Silent(), tell=silent)
    answers: Answers = []
    with showing_residency() if first else nullcontext():
        for request, place in zip(requests, output_places(options.output, len(requests)), strict=True):
            if first:
                answers.append(worker.run(request, place).answer())
            else:
                worker.take_part(request)
    world.close()
    return answers


def _with_seeds(requests: Sequence[WanRequest], world: GpuWorld) -> list[WanRequest]:
    """Return the requests with a seed where they have none: the one that rank 0 draws."""
    import torch

    drawn = world.everyone.from_first(torch.tensor([secrets.randbelow(2**53) for _ in requests]))
    return [
        request if seed_of(request) is not None else parse(request.kind, {**request.document(), "seed": seed})
        for request, seed in zip(requests, drawn.tolist(), strict=True)
    ]


def _with_device(options: argparse.Namespace, device: str) -> argparse.Namespace:
    return argparse.Namespace(**{**vars(options), "device": device})
