"""The places of `batch run --on`: makes their workers, and says what the whole batch takes at each."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RequestError
from ..plan.expectation import read_rates
from ..progress import Silent
from ..request.parse import read_json
from ..request.report import silent
from .batch_lines import duration, say
from .models_command import rates_file
from .request_findings import found_in_loras
from .run_flags import worker_of
from .terminal import agreed
from .workers_command import add_joining_flags

if TYPE_CHECKING:
    from ..fleet.batch_rows import NeedsAt
    from ..fleet.local_place import LocalPlace
    from ..fleet.worker import Worker
    from ..plan.families import Family

__all__ = ["PLACES", "Places", "add_place_flags", "approve", "open_fal", "open_places", "share_machine"]

PLACES = ("local", "comfy", "ray", "fal")
_FAL_AT_ONCE = 4  # jobs that wait at fal at the same time


@dataclass(frozen=True)
class Places:
    """The workers of a batch. settings: what decides its results. family: of the model here, if any."""

    workers: Sequence[Worker]
    settings: dict[str, Any]
    family: Family | None = None

    @property
    def is_here(self) -> bool:
        """Whether rows run in this process, which then shows their steps itself."""
        return len(self.workers) == 1 and self.workers[0].name == "local"


def add_place_flags(parser: argparse.ArgumentParser) -> None:
    """Add --on, --workers, --comfy and --yes."""
    group = parser.add_argument_group("where rows run")
    group.add_argument(
        "--on",
        type=_places,
        default=["local"],
        metavar="PLACES",
        help=f"any of {','.join(PLACES)}; a row runs at one of them that can do it; default: local",
    )
    group.add_argument(
        "--workers",
        type=_count,
        default=1,
        metavar="N",
        help="processes on this machine, each with its own model, on the GPUs in turn; default: 1",
    )
    group.add_argument(
        "--comfy",
        type=_addresses,
        metavar="URL,URL",
        help="the ComfyUIs of --on comfy; default: the list in comfy.json beside the keys",
    )
    group.add_argument(
        "--comfy-workflow",
        type=Path,
        metavar="FILE.json",
        help="a workflow in the API format whose Wan Duet Run Local runs the rows, with its model; default: "
        "Load Model with the name in --model",
    )
    add_joining_flags(group)
    group.add_argument("--yes", action="store_true", help="do not ask before rows run or are bought")


def _places(text: str) -> list[str]:
    names = list(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in PLACES:
            raise argparse.ArgumentTypeError(f"{name!r} is not a place; use {', '.join(PLACES)}")
    return names


def _addresses(text: str) -> list[str]:
    from ..fleet.comfy_addresses import require_address

    try:
        return [require_address(url, "--comfy") for url in dict.fromkeys(text.split(","))]
    except RequestError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of workers; give 1 to 64")
    return int(text)


_HERE = (
    *("precision", "device", "residency", "attention", "kernels", "compile", "as_requested"),
    *("ignore_memory", "allow_partial_loras", "pose_video", "max_seconds"),
    *("prompt_expander", "safety_checker"),
)


@contextmanager
def open_places(options: argparse.Namespace) -> Iterator[Places]:
    """Yield the workers of --on. Raises RequestError for flags of places that are not named."""
    if not {"local", "ray"} & set(options.on):
        given = [name for name in _HERE if getattr(options, name)]
        _refuse(options, ["workers", *given] if options.workers > 1 else given, "local")
    if "comfy" not in options.on:
        _refuse(options, [name for name in ("comfy", "comfy_workflow") if getattr(options, name)], "comfy")
    if "ray" not in options.on:
        _refuse(options, [name for name in ("address", "insecure") if getattr(options, name)], "ray")
    with _fal(options) as bought, _fleet(options) as fleet:
        made = [make(options) for place, make in _MAKERS.items() if place in options.on]
        if "ray" in options.on:
            made.insert(int("local" in options.on), fleet)  # both have the settings of the model here
        first = made[0] if made else Places([], {})
        yield replace(first, workers=[*(worker for place in made for worker in place.workers), *bought])


def _refuse(options: argparse.Namespace, names: Sequence[str], place: str) -> None:
    """Raise RequestError if flags of a place are given, which is not among those of --on."""
    if names:
        flags = ", ".join("--" + name.replace("_", "-") for name in names)
        found = f"given with --on {','.join(options.on)}"
        raise RequestError.of(flags, found, f"add {place} to --on, or leave it out")


def _local(options: argparse.Namespace) -> Places:
    place = _here(options)
    workers: list[Worker] = [place]
    if options.workers > 1 or len(options.on) > 1:
        from ..fleet.process_worker import ProcessWorker

        given = argparse.Namespace(
            **{name: value for name, value in vars(options).items() if name != "command"}
        )
        workers = [
            ProcessWorker(f"local-{number}", place.check, partial(place_of_process, given, number - 1))
            for number in range(1, options.workers + 1)
        ]
    return Places(workers, place.settings(), place.worker.model.family)


def _comfy(options: argparse.Namespace) -> Places:
    """Return the ComfyUIs, each as a worker."""
    from ..download.folders import remote_folder
    from ..fleet.comfy_addresses import comfy_addresses
    from ..fleet.comfy_place import ComfyPlace, require_runner

    workflow = None
    if options.comfy_workflow is not None:
        workflow = _read_workflow(options.comfy_workflow)
        require_runner(workflow)
    elif options.model is None:
        fix = "give toy or a file as Load Model lists it, or --comfy-workflow"
        raise RequestError.of("--model", "not given", fix)
    addresses = options.comfy or comfy_addresses(remote_folder())
    settings = {"comfy": workflow or options.model}
    return Places([ComfyPlace(url, options.model, workflow) for url in addresses], settings)


def _read_workflow(file: Path) -> dict[str, Any]:
    try:
        return read_json(file.read_bytes())
    except OSError as error:
        fix = "give a readable file"
        raise RequestError.of("--comfy-workflow", f"{file}: {error.strerror}", fix) from None


def _here(options: argparse.Namespace) -> LocalPlace:
    from ..fleet.local_place import LocalPlace

    return LocalPlace(worker_of(options, keeps=True), rates=read_rates(rates_file()))


# Their order: of several places the first decides the settings that the journal compares.
_MAKERS = {"local": _local, "comfy": _comfy}


def share_machine(options: argparse.Namespace, index: int) -> None:
    """Take one of the GPUs, and a part of the cores, for the process with this index of --workers."""
    import torch

    if options.device in (None, "cuda") and torch.cuda.device_count() > 1:
        options.device = f"cuda:{index % torch.cuda.device_count()}"
    torch.set_num_threads(max(1, torch.get_num_threads() // options.workers))


def place_of_process(options: argparse.Namespace, index: int) -> LocalPlace:
    """Return the worker of one of several processes, by its index from 0."""
    share_machine(options, index)
    place = _here(options)
    return replace(place, worker=replace(place.worker, progress=Silent(), tell=silent))


@contextmanager
def _fleet(options: argparse.Namespace) -> Iterator[Places]:
    """Yield the slots of a fleet that hold the same model as this machine, which checks the rows."""
    if "ray" not in options.on:
        yield Places([], {})
        return
    from .ray_places import open_fleet

    place = _here(options)
    with open_fleet(options, place) as workers:
        yield Places(workers, place.settings(), place.worker.model.family)


@contextmanager
def _fal(options: argparse.Namespace) -> Iterator[list[Worker]]:
    """Yield what buys rows at fal, if it is one of --on."""
    from ..download.folders import remote_folder

    if "fal" not in options.on:
        yield []
        return
    with open_fal(remote_folder(), options.output) as buyers:
        yield buyers


@contextmanager
def open_fal(folder: Path, output: Path) -> Iterator[list[Worker]]:
    """Yield workers that buy at fal. All of them share one account and one journal of purchases.

    folder: of key and journal. output: the folder of the results, beside which bought files stay.
    """
    from ..fleet.fal_place import FalPlace
    from ..remote.experience import known_spending
    from .remote_terminal import open_account

    with open_account("fal", folder) as (thread, account):
        thread.resume([account])  # what a killed command left open comes home
        spending = known_spending(folder)
        yield [
            FalPlace(f"fal-{number}", thread, account, spending, output / ".bought", found_in_loras)
            for number in range(1, _FAL_AT_ONCE + 1)
        ]


def approve(options: argparse.Namespace, needs: Sequence[NeedsAt]) -> None:
    """Say what is found in the rows and what they take at each place. Ask where money or a terminal is there.

    Raises KeyboardInterrupt if the user says no, RequestError if nobody can be asked about money.
    """
    if not needs:
        return
    places = dict.fromkeys(place for row in needs for place in row)
    for line, rows in _findings(options, needs).items():
        say(f"{line} ({rows} of {len(needs)} rows)")
    for place in places:
        say(_summary(place, [row[place] for row in needs if place in row], options.workers))
    costs = any(one.usd != 0 for row in needs for one in row.values())
    if (costs or sys.stdin.isatty()) and not agreed(f"run {len(needs)} rows?", yes=options.yes):
        raise KeyboardInterrupt


def _findings(options: argparse.Namespace, needs: Sequence[NeedsAt]) -> Counter[str]:
    """Return the findings that no run says, and in how many rows each is. One worker here says its own."""
    own = {"local"} if options.workers == 1 else set()
    told = (
        {finding.line() for place, one in row.items() if place not in own for finding in one.findings}
        for row in needs
    )
    return Counter(line for lines in told for line in sorted(lines))


def _summary(place: str, needs: Sequence[Any], workers: int) -> str:
    """Say how many rows a place can run, and what all of them take there."""
    seconds = [one.seconds for one in needs]
    memory = [one.memory_bytes for one in needs if one.memory_bytes is not None]
    money = [one.usd for one in needs]
    parts = [f"{place}: {len(needs)} rows"]
    if place in ("local", "ray"):
        unknown = "time unknown until `wan-duet bench` measures it"
        parts.append(unknown if None in seconds else f"about {duration(sum(seconds) / workers)}")
        parts += [f"{max(memory) / 2**20:,.0f} MiB for the largest"] if memory else []
    if any(usd != 0 for usd in money):
        known_usd = sum(usd for usd in money if usd is not None)
        rest = sum(usd is None for usd in money)
        parts.append(f"up to ${known_usd:.2f}" + (f" and {rest} rows of unknown price" if rest else ""))
    return ", ".join(parts)
