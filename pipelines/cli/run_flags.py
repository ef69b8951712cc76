"""The flags of a run on this machine, and the worker that they describe."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..device.memory import DeviceMemory
from ..device.precision import Precision
from ..download.folders import data_folder
from ..embedded.toy_model import EMBEDDED, embedded_loras
from ..errors import RequestError
from ..kernels.kernel_names import ATTENTIONS, KERNELS
from ..request.base import WanRequest
from ..request.report import Tell, silent
from ..request.shots_request import SHOTS
from .request_flags import (
    add_precision,
    add_residency,
    chosen_image_model,
    load_chosen,
    seconds_of,
)
from .terminal import TerminalProgress, print_findings

if TYPE_CHECKING:
    from ..generate.local_receipt import Recorded
    from ..generate.local_worker import LocalWorker
    from ..generate.recorded_film import RecordedFilm
    from ..loading.wan_model import WanModel
    from ..weights.lora.find import LoraSources

__all__ = [
    "add_machine_flags",
    "add_run_flags",
    "keeps_networks",
    "load_recorded",
    "lora_sources",
    "output_places",
    "recorded_film_worker",
    "recorded_worker",
    "showing_residency",
    "worker_of",
]


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of device, precision, kernels, memory, LoRAs and speech."""
    add_precision(parser)
    add_machine_flags(parser)
    add_residency(parser)
    parser.add_argument(
        "--attention",
        choices=ATTENTIONS,
        help="attention kernel of the experts; all but sage are exact; default: the fastest exact one",
    )
    parser.add_argument(
        "--kernels",
        choices=KERNELS,
        help="kernels for element-wise operations of the experts and the VAE; plain uses only torch; "
        "default: the fastest that work here",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="run the blocks of the experts through torch.compile: less memory, rarely faster; "
        "needs triton on a GPU, a C++ compiler on a CPU",
    )
    parser.add_argument(
        "--as-requested",
        action="store_true",
        help="follow the acceleration field of the request; without this flag every step is computed",
    )
    parser.add_argument(
        "--ignore-memory", action="store_true", help="run even if the memory estimate says that it cannot fit"
    )
    parser.add_argument(
        "--allow-partial-loras",
        action="store_true",
        help="also apply LoRAs of which only a part fits the model",
    )

    speech = parser.add_argument_group("speech to video")
    speech.add_argument(
        "--pose-video", type=Path, metavar="FILE", help="a pose video that guides the body of the speaker"
    )
    speech.add_argument(
        "--max-seconds",
        type=seconds_of,
        metavar="S",
        help="cut the video after S seconds; default: the length of the sound",
    )


def add_machine_flags(parser: argparse.ArgumentParser) -> None:
    """Add --device and --cache."""
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps; default: the best there is")
    parser.add_argument(
        "--cache",
        type=Path,
        default=data_folder() / "loras",
        metavar="FOLDER",
        help="folder for downloaded LoRAs; default: %(default)s",
    )


@contextmanager
def showing_residency() -> Iterator[None]:
    """Print on stderr what `stages` logs about the residency of the weights."""
    stages = f"{__package__.rpartition('.')[0]}.generate.stages"
    said, handler = logging.getLogger(stages), logging.StreamHandler(sys.stderr)
    before = said.level
    said.addHandler(handler)
    said.setLevel(logging.INFO)
    try:
        yield
    finally:
        said.setLevel(before)
        said.removeHandler(handler)


def worker_of(options: argparse.Namespace, *, keeps: bool) -> LocalWorker:
    """Load the chosen model, and return what runs requests on it.

    keeps: its experts stay loaded between two runs.
    """
    from ..generate.local_worker import LocalWorker
    from ..interpolation.interpolator_files import find_interpolators

    return LocalWorker(
        model=load_chosen(options, _required_model(options), options.precision),
        memory=DeviceMemory(options.device, keeps=keeps),
        progress=TerminalProgress(sys.stderr),
        tell=print_findings,
        lora_sources=lora_sources(options),
        interpolators=find_interpolators(options.interpolator_folder),
        acceleration="as requested" if options.as_requested else "exact",
        check_memory=not options.ignore_memory,
        allow_partial_loras=options.allow_partial_loras,
        pose_video=options.pose_video,
        max_seconds=options.max_seconds,
        image_model=chosen_image_model(options, options.precision),
    )


def keeps_networks(requests: Sequence[WanRequest]) -> bool:
    """Return whether networks may stay loaded between requests, or between the clips or shots of one."""
    return len(requests) > 1 or requests[0].task in ("speech-to-video", SHOTS)


def output_places(out: Path, count: int) -> list[Path]:
    """Return the file of each result: OUT, or OUT-1, OUT-2 and so on."""
    if count == 1:
        return [out]
    return [out.with_stem(f"{out.stem}-{number}") for number in range(1, count + 1)]


def load_recorded(
    options: argparse.Namespace, recorded: Recorded, precision: Precision, fix: str
) -> WanModel:
    """Load the model of a receipt: --model, or the embedded one that it names.

    fix: what the user can do if the receipt names another model and --model is not given.
    """
    if options.model is None and recorded.model_name not in EMBEDDED:
        found = f"not given, and the receipt used {recorded.model_name}"
        raise RequestError.of("--model", found, fix)
    return load_chosen(options, options.model or recorded.model_name, precision)


def recorded_worker(
    options: argparse.Namespace,
    recorded: Recorded,
    model: WanModel,
    image_model: WanModel | None = None,
    tell: Tell = silent,
) -> LocalWorker:
    """Return what runs the request of a receipt again, with its acceleration. model: with its precision."""
    from ..generate.local_worker import LocalWorker
    from ..interpolation.interpolator_files import find_interpolators

    return LocalWorker(
        model=model,
        memory=DeviceMemory(options.device),
        progress=TerminalProgress(sys.stderr),
        tell=tell,
        lora_sources=lora_sources(options, recorded.folder),
        interpolators=find_interpolators(options.interpolator_folder),
        acceleration="exact" if recorded.cache is None else "as requested",
        check_memory=not getattr(options, "ignore_memory", False),
        allow_partial_loras=True,  # they were allowed in the first run
        image_model=image_model,
    )


def recorded_film_worker(
    options: argparse.Namespace, film: RecordedFilm, fix: str, tell: Tell = silent
) -> LocalWorker:
    """Return what makes the shots of a receipt again, with the models and the kernels that it names.

    fix: as for `load_recorded`.
    """
    first, from_image = film.from_text, film.from_image
    model = replace(load_recorded(options, first, first.precision, fix), preferences=first.preferences)
    if from_image is None:
        return recorded_worker(options, first, model, tell=tell)
    named = {"model": options.image_model, "low_model": options.image_low_model}
    if options.image_model is None and from_image.model_name not in EMBEDDED:
        found = f"not given, and shots of the receipt used {from_image.model_name}"
        raise RequestError.of("--image-model", found, fix)
    options_of_image = argparse.Namespace(**{**vars(options), **named})
    image_model = load_recorded(options_of_image, from_image, from_image.precision, fix)
    image_model = replace(image_model, preferences=from_image.preferences)
    return recorded_worker(options, first, model, image_model, tell)


def _required_model(options: argparse.Namespace) -> str:
    if options.model is None:
        raise RequestError.of("--model", "not given", "give toy, a folder in diffusers layout, or a file")
    return str(options.model)


def lora_sources(options: argparse.Namespace, *folders: Path) -> LoraSources:
    """Any local file, the embedded LoRAs, and the web. folders: searched after those of --lora-folder."""
    from ..download.downloads import Downloads
    from ..weights.lora.find import LoraSources

    nearby = (*getattr(options, "lora_folder", ()), *folders)
    return LoraSources(embedded=embedded_loras(), downloads=Downloads.into(options.cache), nearby=nearby)
