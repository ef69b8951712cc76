"""The place `ray` of `batch run --on`: the slots of a fleet, or of a private one on this machine."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from .workers_command import access_of, is_loopback, make_slots_here, require_reachable

if TYPE_CHECKING:
    from ..fleet.local_place import LocalPlace
    from ..fleet.worker import Worker

__all__ = ["open_fleet"]

_JOIN_S = 60.0
_LEASE_S = 60.0  # of the process that drives a slot


@contextmanager
def open_fleet(options: argparse.Namespace, here: LocalPlace) -> Iterator[list[Worker]]:
    """Yield a worker for each slot that fits. here: what checks, and what the slots must be like.

    Without --address they are `--workers` processes of a private cluster, which ends with this block.
    """
    from ..fleet.fleet_slots import fitting_slots
    from ..fleet.process_worker import ProcessWorker
    from ..fleet.ray_cluster import joined_process, slots_of
    from ..fleet.ray_node import started_node
    from ..fleet.ray_worker import RayWorker

    access = access_of(options)
    with ExitStack() as stack:
        if options.address is None:
            node = stack.enter_context(started_node(access, slots=options.workers))
            make_slots_here(options, node, access, options.workers)
            address = node.address
        else:
            address = options.address
            if not is_loopback(address.rpartition(":")[0]):
                require_reachable(options)
                stack.enter_context(started_node(access, slots=0, address=address))
        found = joined_process(slots_of, address, access, timeout_s=_JOIN_S)
        yield [
            ProcessWorker(
                name,
                here.check,
                partial(RayWorker, address, name, access),
                place="ray",
                lease_s=_LEASE_S,
                memory_bytes=found[name].get("memory_bytes"),
            )
            for name in fitting_slots(found, here.settings())
        ]
