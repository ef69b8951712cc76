"""What is done by a process that has joined a cluster. No function here runs in the process of a batch or of
ComfyUI: `joined_process` calls them in one of their own.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

from ..errors import HostError, WorkerLostError
from .cluster_access import ClusterAccess
from .ray_slot import RaySlot

__all__ = ["NAMESPACE", "join", "joined_process", "lost", "make_slots", "slots_of"]

NAMESPACE = "wan-duet"
_PREFIX = "slot-"
_LOAD_S = 900.0  # a model may have to be read from a slow disk
_ANSWER_S = 20.0
_ALIVE_S = 10.0  # in which a slot that lives answers
_THREADS = 4  # of a slot: one computes, the others answer


def join(address: str, access: ClusterAccess) -> Any:
    """Join the cluster at `address`, and return the module ray. Raises WorkerLostError."""
    os.environ.update(access.environment())
    import ray

    with lost(f"the cluster at {address} (does it run, and is the token file a copy of its own?)"):
        ray.init(
            address=address,
            namespace=NAMESPACE,
            log_to_driver=False,
            logging_level="ERROR",
            _node_ip_address=access.host,  # of the node on this machine
        )
    return ray


@contextmanager
def lost(what: str) -> Iterator[None]:
    """Turn errors of Ray into WorkerLostError. what: names the other side."""
    import ray.exceptions

    try:
        yield
    except ray.exceptions.AuthenticationError as error:
        raise WorkerLostError(f"{what}: the token is not that of the cluster: {_first_line(error)}") from None
    except (ray.exceptions.RayError, ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise WorkerLostError(f"{what}: {_first_line(error)}") from None


def make_slots(
    address: str, access: ClusterAccess, node: str, count: int, gpus: float, make_worker: Any, contents: str
) -> list[str]:
    """Make `count` actors on the node that has the resource `node`, and wait until their models are there.

    gpus: of each. Returns their names, by the address of this machine: a node that was lost and is started
    again has the same ones, so that a batch finds them. They stay until the node ends.
    """
    ray = join(address, access)
    actor = ray.remote(RaySlot)
    free = (name for name in _names_of(access.host) if _is_free(ray, name))
    names = list(itertools.islice(free, count))
    slots = [
        actor.options(
            name=name,
            lifetime="detached",
            max_restarts=-1,
            max_task_retries=0,
            max_concurrency=_THREADS,
            num_cpus=0,
            num_gpus=gpus,
            resources={node: 1},
        ).remote(make_worker, contents)
        for name in names
    ]
    with lost(f"the slots of {node}"):
        ray.get([slot.describe.remote() for slot in slots], timeout=_LOAD_S)
    return names


def _names_of(host: str) -> Iterator[str]:
    return (f"{_PREFIX}{host}-{number}" for number in itertools.count())


def _is_free(ray: Any, name: str) -> bool:
    """Return whether no slot of this name answers. Ends what is left of one whose node was lost."""
    slot = _slot_of(ray, name)
    if slot is None:
        return True
    answer = slot.describe.remote()
    if ray.wait([answer], timeout=_ALIVE_S)[0] and _answer(ray, answer) is not None:
        return False
    ray.kill(slot)
    until = time.monotonic() + _ANSWER_S
    while _slot_of(ray, name) is not None and time.monotonic() < until:
        time.sleep(_ALIVE_S / 50)
    return True


def _slot_of(ray: Any, name: str) -> Any:
    """Return a slot, or None if there is none of this name."""
    with suppress(ValueError):
        return ray.get_actor(name, namespace=NAMESPACE)
    return None


def slots_of(address: str, access: ClusterAccess) -> dict[str, dict[str, Any]]:
    """Return {name: what `RaySlot.describe` says} of all slots that answer."""
    ray = join(address, access)
    names = [
        entry["name"]
        for entry in ray.util.list_named_actors(all_namespaces=True)
        if entry["namespace"] == NAMESPACE and entry["name"].startswith(_PREFIX)
    ]
    asked = {answer: name for name in names if (answer := _asked(ray, name)) is not None}
    if not asked:
        return {}
    ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=_ANSWER_S)
    answers = {asked[answer]: _answer(ray, answer) for answer in ready}
    return {name: json.loads(answer) for name, answer in answers.items() if answer is not None}


def _asked(ray: Any, name: str) -> Any:
    """Ask a slot what it is. Returns None for one that has died since it was listed."""
    slot = _slot_of(ray, name)
    return None if slot is None else slot.describe.remote()


def _answer(ray: Any, answer: Any) -> bytes | None:
    """Return what a slot said, or None if it has died."""
    with suppress(ray.exceptions.RayError):
        return bytes(ray.get(answer))
    return None


def joined_process(function: Callable[..., Any], *arguments: Any, timeout_s: float = _LOAD_S) -> Any:
    """Call a function in a process of its own, and return what it returns.

    Raises HostError with its message if it fails, or if it takes longer.
    """
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_report, args=(theirs, function, arguments), daemon=True
    )
    process.start()
    theirs.close()
    try:
        if not ours.poll(timeout_s):
            raise HostError(f"Ray did not answer within {timeout_s:.0f} s; is the address that of a fleet?")
        said = json.loads(ours.recv_bytes())
    except EOFError:
        process.join()
        raise HostError(f"the process that joined Ray ended with code {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
    if "error" in said:
        raise HostError(said["error"])
    return said["result"]


def _report(connection: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        said = {"result": function(*arguments)}
    except Exception as error:
        said = {"error": str(error) or type(error).__name__}
    connection.send_bytes(json.dumps(said).encode())


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
