"""`wan-duet generate`: runs a request here or at a provider, or repeats the run of a receipt."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..device.memory import DeviceMemory
from ..errors import RequestError
from ..request.check import RUNNERS
from ..request.field_rows import MEDIA
from ..request.flags import values_of_flags
from ..request.kinds import class_of
from ..video.output import require_known_suffix
from .remote_command import CHEAPEST, add_remote_flags, generate_remotely, require_local_flags
from .request_flags import add_request_flags, read_request, read_requests
from .run_flags import (
    add_run_flags,
    keeps_networks,
    load_recorded,
    lora_sources,
    output_places,
    recorded_film_worker,
    showing_residency,
    worker_of,
)
from .several_gpus import add_gpus, answers_of_gpus, answers_of_torchrun, started_by_torchrun
from .subcommands import add_command
from .terminal import TerminalProgress, print_findings

if TYPE_CHECKING:
    from ..generate.recorded_film import RecordedFilm
    from ..generate.result import Result

__all__ = ["add_generate_command"]


def add_generate_command(commands: Any, kind: str) -> None:
    """Add `generate`, with the flags of `kind`."""
    text = "run a request; writes the result and its receipt"
    generate = add_command(commands, "generate", _generate, text)
    generate.add_argument(
        "--on",
        choices=(*RUNNERS, CHEAPEST),
        default="local",
        help="where to run it; cheapest: the provider with the lowest known price among those that you have "
        "a key for and that refuse nothing; default: %(default)s",
    )
    generate.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="OUT",
        help=".mp4, .mov, .png or .jpg; with --local-count, OUT-1.mp4 and so on",
    )
    generate.add_argument(
        "--from-receipt",
        type=Path,
        metavar="OUT.json",
        help="repeat the run of a receipt exactly; inputs and LoRAs are looked up in the current folder and "
        "beside the receipt, inputs unless --kind and their flags are given",
    )

    add_run_flags(generate)
    add_gpus(generate)
    add_remote_flags(generate)
    add_request_flags(generate, kind)


def _generate(options: argparse.Namespace) -> int:
    if options.on != "local":
        return generate_remotely(read_request(options), options)
    if (cls := class_of(options.kind)).remote_only:
        raise RequestError.of("kind", f"{cls.kind} runs only at {cls.provider}", f"add --on {cls.provider}")
    require_local_flags(options)
    require_known_suffix(options.output)
    if started_by_torchrun():
        answers = answers_of_torchrun(options)
    elif options.gpus:
        answers = answers_of_gpus(options)
    else:
        with showing_residency():
            results = _make(options) if options.from_receipt is None else [_repeat(options)]
        answers = [result.answer() for result in results]
    _print_answers(answers, as_json=options.json)
    return 0


def _make(options: argparse.Namespace) -> list[Result]:
    requests = read_requests(options)
    worker = worker_of(options, keeps=keeps_networks(requests))
    places = output_places(options.output, len(requests))
    return [worker.run(request, place) for request, place in zip(requests, places, strict=True)]


def _repeat(options: argparse.Namespace) -> Result:
    from ..generate.local_receipt import read_content, recorded_in
    from ..generate.recorded_film import film_in, is_film_receipt
    from ..generate.repeated_run import repeat
    from ..interpolation.interpolator_files import find_interpolators

    flags = values_of_flags(options)
    for flag in ("attention", "kernels", "compile"):
        if getattr(options, flag):
            fix = "leave it out: the receipt decides it"
            raise RequestError.of(f"--{flag}", "given together with --from-receipt", fix)
    if options.request is not None or options.preset is not None or not flags.keys() <= set(MEDIA):
        raise RequestError.of("REQUEST.json", "given together with --from-receipt", "give one of the two")
    content = read_content(options.from_receipt)
    if is_film_receipt(content):
        return _repeat_film(options, film_in(content, options.from_receipt), flags)
    recorded = recorded_in(content, options.from_receipt)
    precision = options.precision or recorded.precision
    return repeat(
        recorded,
        load_recorded(options, recorded, precision, "give the folder or the files of that model"),
        out=options.output,
        memory=DeviceMemory(options.device),
        progress=TerminalProgress(sys.stderr),
        media={name: Path(file).expanduser() for name, file in flags.items()},
        lora_sources=lora_sources(options, recorded.folder),
        interpolators=find_interpolators(options.interpolator_folder),
        check_memory=not options.ignore_memory,
        pose_video=options.pose_video,
        tell=print_findings,
    )


def _repeat_film(options: argparse.Namespace, film: RecordedFilm, flags: Mapping[str, Any]) -> Result:
    """Make the video of several shots of a receipt again."""
    from ..generate.cpu_settings import threads_of

    given = [name.replace("_", "-") for name in (*flags, *(["precision"] if options.precision else []))]
    if given:
        fix = "leave it out: the receipt of several shots decides it"
        raise RequestError.of(f"--{given[0]}", "given together with --from-receipt", fix)
    worker = recorded_film_worker(options, film, "give the folder or the files of that model", print_findings)
    with threads_of(film.from_text.cpu):
        return worker.run(film.request, options.output, film.media(), expected=film)


def _print_answers(answers: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """Print one answer as itself, several as a list."""
    if not as_json:
        for answer in answers:
            print(answer.get("video") or answer["image"])
    elif answers:
        answer = answers[0] if len(answers) == 1 else {"results": answers}
        print(json.dumps(answer, indent=2, ensure_ascii=False))
