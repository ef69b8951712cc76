"""Where the jobs of `wan-duet serve` run: in this process, in several, on a fleet; and what is bought."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ..embedded.toy_model import embedded_loras
from ..errors import RequestError
from ..request.field_rows import with_texts
from ..request.lora_weight import place_of
from ..request.parse import parse
from .argument_types import amount_of_money, count
from .batch_places import share_machine
from .run_flags import worker_of
from .subcommands import folder_of

if TYPE_CHECKING:
    from ..fleet.local_place import LocalPlace
    from ..fleet.worker import Worker
    from ..request.base import WanRequest
    from ..service.lane import LaneProgress
    from ..service.serve import Purchases
    from ..weights.lora.find import LoraSources

__all__ = ["add_serving_places", "lanes_of", "place_here", "purchases_of", "with_lora_files"]


def add_serving_places(parser: argparse.ArgumentParser) -> None:
    """Add --on, --workers, the flags that join a fleet, and those of --overflow."""
    group = parser.add_argument_group("where jobs run")
    group.add_argument(
        "--on", choices=("local", "ray"), default="local", help="this machine, or a fleet; default: local"
    )
    group.add_argument(
        "--workers",
        type=count,
        default=1,
        metavar="N",
        help="processes on this machine, each with its own model, on the GPUs in turn; default: 1",
    )
    group.add_argument(
        "--address", metavar="HOST:PORT", help="the head of the fleet; default: a private one on this machine"
    )
    group.add_argument(
        "--fleet-listen", default="127.0.0.1", metavar="IP", help="address of this machine for the fleet"
    )
    group.add_argument("--insecure", action="store_true", help="join a fleet that has no token")
    group.add_argument(
        "--overflow",
        choices=("fal",),
        help="buy jobs there while too many wait, with your key; default: nothing is bought",
    )
    group.add_argument(
        "--overflow-above",
        type=count,
        default=10,
        metavar="N",
        help="buy while more than N jobs wait; default: %(default)s",
    )
    group.add_argument(
        "--overflow-usd-per-day",
        type=amount_of_money,
        metavar="USD",
        help="what bought jobs may cost a day together; needed with --overflow",
    )


def place_here(options: argparse.Namespace) -> LocalPlace:
    """Return the worker of this process, which reads LoRAs of --lora-folder alone."""
    from ..fleet.local_place import LocalPlace
    from ..service.lane import LaneProgress

    worker = replace(worker_of(options, keeps=True), progress=LaneProgress(), lora_sources=_loras(options))
    return LocalPlace(worker)


@contextmanager
def lanes_of(options: argparse.Namespace, here: LocalPlace) -> Iterator[list[tuple[Worker, LaneProgress]]]:
    """Yield the workers of --on, each with its progress; those of other processes show none.

    Raises RequestError for flags of a fleet without one.
    """
    from ..service.lane import LaneProgress

    if options.on == "ray":
        from .ray_places import open_fleet

        joining = argparse.Namespace(**{**vars(options), "listen": options.fleet_listen})
        with open_fleet(joining, here) as slots:
            yield [(slot, LaneProgress()) for slot in slots]
        return
    if options.address is not None or options.insecure:
        raise RequestError.of("--address, --insecure", "given with --on local", "give --on ray too")
    if options.workers == 1:
        progress = here.worker.progress
        assert isinstance(progress, LaneProgress)  # noqa: S101 - `place_here` gave it
        yield [(here, progress)]
        return
    yield [(worker, LaneProgress()) for worker in _processes(options, here)]


def _processes(options: argparse.Namespace, here: LocalPlace) -> Iterator[Worker]:
    from ..fleet.process_worker import ProcessWorker

    given = argparse.Namespace(**{**vars(options), "command": None})
    for index in range(options.workers):
        make = partial(_place_of_process, given, index)
        yield ProcessWorker(f"local-{index + 1}", here.check, make)


def _place_of_process(options: argparse.Namespace, index: int) -> LocalPlace:
    """Return the worker of one of several processes, by its index from 0."""
    share_machine(options, index)
    return place_here(options)


@contextmanager
def purchases_of(options: argparse.Namespace) -> Iterator[Purchases | None]:
    """Yield what --overflow buys, None without it. Raises RequestError without a limit, KeyProblemError."""
    if options.overflow is None:
        if options.overflow_usd_per_day is not None:
            raise RequestError.of("--overflow-usd-per-day", "given alone", "give --overflow fal too")
        yield None
        return
    if options.overflow_usd_per_day is None:
        fix = "say what bought jobs may cost a day together"
        raise RequestError.of("--overflow-usd-per-day", "not given", fix)
    from ..service.serve import Purchases
    from .batch_places import open_fal

    with open_fal(folder_of(options), options.output) as workers:
        yield Purchases(workers, options.overflow_above, options.overflow_usd_per_day)


def with_lora_files(options: argparse.Namespace) -> Callable[[WanRequest], WanRequest]:
    """Return what names the LoRAs of a request by their files here, for a worker that knows no folders."""
    sources = _loras(options)

    def named(request: WanRequest) -> WanRequest:
        def found(field: str, text: str) -> str:
            return str(sources.find(text)) if field == "path" and place_of(text) == "file" else text

        return parse(request.kind, with_texts(request.document(), found))

    return named


def _loras(options: argparse.Namespace) -> LoraSources:
    from ..weights.lora.find import LoraSources

    return LoraSources(folders=options.lora_folder, embedded=embedded_loras())
