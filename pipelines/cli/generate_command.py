"""`wan-duet generate`: runs a request here or at a provider, or repeats the run of a receipt."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..device.memory import DeviceMemory
from ..device.precision import PRECISIONS
from ..download.folders import data_folder
from ..embedded.toy_model import EMBEDDED, embedded_loras
from ..errors import RequestError
from ..kernels.kernel_names import ATTENTIONS, KERNELS
from ..progress import Progress
from ..request.check import RUNNERS
from ..request.field_rows import MEDIA
from ..request.flags import values_of_flags
from ..request.kinds import class_of
from ..video.output import require_known_suffix
from .remote_command import CHEAPEST, add_remote_flags, generate_remotely, require_local_flags
from .request_flags import add_request_flags, add_residency, load_chosen, read_request, seconds_of
from .subcommands import add_command
from .terminal import TerminalProgress, print_findings

if TYPE_CHECKING:
    from ..generate.local_run import Result
    from ..weights.lora.find import LoraSources

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
        "-o", "--output", type=Path, required=True, metavar="OUT", help=".mp4, .png or .jpg"
    )
    generate.add_argument(
        "--from-receipt",
        type=Path,
        metavar="OUT.json",
        help="repeat the run of a receipt exactly; inputs are looked up in the current folder and beside the "
        "receipt, unless --kind and their flags are given",
    )

    generate.add_argument(
        "--precision", choices=PRECISIONS, default=None, help="dtype of the computation; default: auto"
    )
    generate.add_argument("--device", help="cpu, cuda, cuda:1, mps; default: the best there is")
    add_residency(generate)
    generate.add_argument(
        "--attention",
        choices=ATTENTIONS,
        help="attention kernel of the experts; all but sage are exact; default: the fastest exact one",
    )
    generate.add_argument(
        "--kernels",
        choices=KERNELS,
        help="kernels for element-wise operations of the experts and the VAE; plain uses only torch; "
        "default: the fastest that work here",
    )
    generate.add_argument(
        "--compile",
        action="store_true",
        help="run the blocks of the experts through torch.compile: less memory, rarely faster; "
        "needs triton on a GPU, a C++ compiler on a CPU",
    )
    generate.add_argument(
        "--as-requested",
        action="store_true",
        help="follow the acceleration field of the request; without this flag every step is computed",
    )
    generate.add_argument(
        "--ignore-memory", action="store_true", help="run even if the memory estimate says that it cannot fit"
    )
    generate.add_argument(
        "--allow-partial-loras",
        action="store_true",
        help="also apply LoRAs of which only a part fits the model",
    )
    generate.add_argument(
        "--cache",
        type=Path,
        default=data_folder() / "loras",
        metavar="FOLDER",
        help="folder for downloaded LoRAs; default: %(default)s",
    )

    speech = generate.add_argument_group("speech to video")
    speech.add_argument(
        "--pose-video", type=Path, metavar="FILE", help="a pose video that guides the body of the speaker"
    )
    speech.add_argument(
        "--max-seconds",
        type=seconds_of,
        metavar="S",
        help="cut the video after S seconds; default: the length of the sound",
    )

    add_remote_flags(generate)
    add_request_flags(generate, kind)


def _generate(options: argparse.Namespace) -> int:
    if options.on != "local":
        return generate_remotely(read_request(options), options)
    if (cls := class_of(options.kind)).remote_only:
        raise RequestError.of("kind", f"{cls.kind} runs only at {cls.provider}", f"add --on {cls.provider}")
    require_local_flags(options)
    require_known_suffix(options.output)
    with _showing_residency():
        result = _make(options, TerminalProgress(sys.stderr))
    _print_result(result, as_json=options.json)
    return 0


@contextmanager
def _showing_residency() -> Iterator[None]:
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


def _make(options: argparse.Namespace, progress: Progress) -> Result:
    from ..generate.local_receipt import read_receipt
    from ..generate.local_run import repeat, run
    from ..interpolation.interpolator_files import find_interpolators

    if options.from_receipt is None:
        request = read_request(options)
        model = load_chosen(options, _required_model(options), options.precision)
        return run(
            request,
            model,
            out=options.output,
            # Clips are sampled one after another: networks may stay loaded for the next one if they fit.
            memory=DeviceMemory(options.device, keeps=request.task == "speech-to-video"),
            progress=progress,
            lora_sources=_lora_sources(options),
            interpolators=find_interpolators(options.interpolator_folder),
            acceleration="as requested" if options.as_requested else "exact",
            check_memory=not options.ignore_memory,
            allow_partial_loras=options.allow_partial_loras,
            pose_video=options.pose_video,
            max_seconds=options.max_seconds,
            tell=print_findings,
        )
    flags = values_of_flags(options)
    for flag in ("attention", "kernels", "compile"):
        if getattr(options, flag):
            fix = "leave it out: the receipt decides it"
            raise RequestError.of(f"--{flag}", "given together with --from-receipt", fix)
    if options.request is not None or options.preset is not None or not flags.keys() <= set(MEDIA):
        raise RequestError.of("REQUEST.json", "given together with --from-receipt", "give one of the two")
    recorded = read_receipt(options.from_receipt)
    if options.model is None and recorded.model_name not in EMBEDDED:
        found = f"not given, and the receipt used {recorded.model_name}"
        raise RequestError.of("--model", found, "give the folder or the files of that model")
    model = load_chosen(
        options, options.model or recorded.model_name, options.precision or recorded.precision
    )
    return repeat(
        recorded,
        model,
        out=options.output,
        memory=DeviceMemory(options.device),
        progress=progress,
        media={name: Path(file).expanduser() for name, file in flags.items()},
        lora_sources=_lora_sources(options),
        interpolators=find_interpolators(options.interpolator_folder),
        check_memory=not options.ignore_memory,
        pose_video=options.pose_video,
        tell=print_findings,
    )


def _required_model(options: argparse.Namespace) -> str:
    if options.model is None:
        raise RequestError.of("--model", "not given", "give toy, a folder in diffusers layout, or a file")
    return str(options.model)


def _lora_sources(options: argparse.Namespace) -> LoraSources:
    """Any local file, the embedded LoRAs, and the web."""
    from ..download.downloads import Downloads
    from ..weights.lora.find import LoraSources

    return LoraSources(embedded=embedded_loras(), downloads=Downloads.into(options.cache))


def _print_result(result: Result, *, as_json: bool) -> None:
    if as_json:
        answer = {
            "video" if result.path.suffix.lower() == ".mp4" else "image": str(result.path),
            "seed": result.seed,
            "prompt": result.prompt,
            "receipt": result.receipt,
        }
        print(json.dumps(answer, indent=2, ensure_ascii=False))
        return
    print(result.path)
