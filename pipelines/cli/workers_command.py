"""`wan-duet workers`: makes this machine a part of a fleet. Needs the extra `ray`."""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import sys
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import HostError, RequestError
from ..progress import Silent
from ..request.report import silent
from .request_flags import add_model_flags
from .run_flags import add_run_flags, worker_of
from .subcommands import add_command, add_folder, add_group, folder_of

if TYPE_CHECKING:
    from ..fleet.cluster_access import ClusterAccess
    from ..fleet.local_place import LocalPlace
    from ..fleet.ray_node import RayNode

__all__ = [
    "access_of",
    "add_joining_flags",
    "add_workers_command",
    "is_loopback",
    "make_slots_here",
    "place_in_slot",
    "require_reachable",
]

_LOOK_S = 1.0


def add_workers_command(commands: Any) -> None:
    """Add `workers start`."""
    workers = add_group(commands, "workers", "make this machine carry out requests of a fleet, with Ray")
    text = "start a node of a fleet with workers that hold a model; the first node is its head"
    start = add_command(workers, "start", _start, text)
    add_joining_flags(start)
    start.add_argument(
        "--slots",
        type=int,
        metavar="N",
        help="how many workers, each with a GPU if there are some; default: one per GPU, or one",
    )
    start.add_argument("--port", type=int, default=0, help="of the head; default: any free one")
    add_run_flags(start)
    add_model_flags(start)


def add_joining_flags(parser: Any) -> None:
    """Add the flags with which a process joins a fleet."""
    parser.add_argument(
        "--address", metavar="HOST:PORT", help="the head of the fleet, as its `workers start` prints it"
    )
    parser.add_argument(
        "--listen",
        default="127.0.0.1",
        metavar="IP",
        help="address of this machine for the others; default: none, everything stays on this machine",
    )
    parser.add_argument(
        "--insecure",
        action="store_true",
        help="no token: whoever reaches the fleet can run any program on it",
    )
    add_folder(parser, "the token of the fleet")


def access_of(options: argparse.Namespace) -> ClusterAccess:
    """Return how to join. The first node makes the token; others must have it."""
    from ..fleet.cluster_access import ClusterAccess, make_token, require_ray, token_file

    require_ray()
    if options.insecure:
        return ClusterAccess(None, options.listen)
    folder = folder_of(options)
    token = token_file(folder) if options.address else make_token(folder)
    return ClusterAccess(token, options.listen)


def place_in_slot(options: argparse.Namespace) -> tuple[LocalPlace, dict[str, Any]]:
    """Return the worker of a slot, and its settings. Called in the process of the slot."""
    import torch

    from ..fleet.local_place import LocalPlace

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // options.slots))
    place = LocalPlace(replace(worker_of(options, keeps=True), progress=Silent(), tell=silent))
    return place, place.settings()


def _start(options: argparse.Namespace) -> int:
    """Start a node, and wait until it ends or the user ends it."""
    from ..fleet.ray_node import started_node

    access = access_of(options)
    require_reachable(options)
    gpus = _gpus()
    slots = options.slots or max(gpus, 1)
    if slots < 1 or (gpus and slots > gpus):
        raise RequestError.of("--slots", f"got {slots}", f"give 1 to {gpus}, the GPUs of this machine")
    with started_node(access, slots=slots, address=options.address, port=options.port) as node:
        _say_ready(node.address, make_slots_here(options, node, access, slots), as_json=options.json)
        while node.is_alive:
            threading.Event().wait(_LOOK_S)
    raise HostError("the node of this machine has ended, because the head of the fleet is gone or Ray failed")


def require_reachable(options: argparse.Namespace) -> None:
    """Raise RequestError if a node of this machine that joins --address could not be reached from there."""
    if options.address is None or is_loopback(options.address.rpartition(":")[0]):
        return
    if is_loopback(options.listen):
        fix = "give --listen with the address of this machine in their network"
        raise RequestError.of("--listen", "the machines of the fleet must reach this one", fix)


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def make_slots_here(
    options: argparse.Namespace, node: RayNode, access: ClusterAccess, slots: int
) -> list[str]:
    """Make the slots of a node of this machine, with the model of the flags. Returns their names."""
    from ..download.folders import data_folder
    from ..fleet.ray_cluster import joined_process, make_slots

    # `command` is a function of a parser, which is nothing for another process.
    given = argparse.Namespace(**{**vars(options), "command": None, "slots": slots})
    contents = str(data_folder() / "contents")
    gpus = 1.0 if _gpus() else 0.0
    make = partial(place_in_slot, given)
    names: list[str] = joined_process(
        make_slots, node.address, access, node.resource, slots, gpus, make, contents
    )
    return names


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _say_ready(address: str, names: list[str], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"address": address, "slots": names}), flush=True)
        return
    print(f"{len(names)} workers are ready at {address}", flush=True)
    joining = f"wan-duet batch run REQUESTS --on ray --address {address} --model ..."
    print(f"use them with: {joining}", file=sys.stderr)
