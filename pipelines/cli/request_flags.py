"""The flags of a request and of its model, and what is read from them."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..device.precision import PRECISIONS
from ..embedded.toy_model import TOY, TOY_IMAGE
from ..errors import RequestError
from ..kernels.kernel_names import COMPILER
from ..plan.families import Family
from ..plan.presets import PRESETS, with_preset
from ..request.base import WanRequest
from ..request.field_rows import LOCAL
from ..request.flags import add_flags, values_of_flags
from ..request.kinds import class_of
from ..request.parse import parse, read_json, with_local
from ..request.seeds_of_count import one_per_seed
from ..request.shots_request import SHOTS
from .subcommands import add_interpolator_folders

if TYPE_CHECKING:
    from ..loading.wan_model import WanModel

__all__ = [
    "DEFAULT_KIND",
    "add_model",
    "add_model_flags",
    "add_precision",
    "add_request_flags",
    "add_residency",
    "chosen_image_model",
    "chosen_model",
    "load_chosen",
    "read_request",
    "read_requests",
    "seconds_of",
    "with_flags",
]

DEFAULT_KIND = "text-to-video"


def add_request_flags(parser: argparse.ArgumentParser, kind: str) -> None:
    """Add REQUEST.json, the flags of `add_model_flags`, and a flag per field of `kind`."""
    parser.add_argument("request", nargs="?", metavar="REQUEST.json", help="a JSON object; - reads stdin")
    add_model_flags(parser)
    add_flags(parser, kind)


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """Add --kind, the model, and the folders of interpolators."""
    parser.add_argument(
        "--kind", type=_kind, default=DEFAULT_KIND, metavar="KIND", help="default: %(default)s"
    )
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        help="values for what REQUEST.json and flags leave out; official: those of the official code for the "
        "model; fal: fal's defaults; draft: a quick look; the others: for weights or LoRAs that are "
        "distilled for few steps",
    )
    add_model(parser)
    add_interpolator_folders(parser)


def _kind(name: str) -> str:
    """Return the name of a kind or alias. Raises ArgumentTypeError that says which there are."""
    try:
        class_of(name)
    except RequestError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return name


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the model and of the helper models."""
    group = parser.add_argument_group(
        "the model",
        "An embedded model, a folder in diffusers layout, or single files (.safetensors, .gguf) with one "
        "flag each. A file replaces that part of the folder.",
    )
    group.add_argument(
        "--model",
        metavar="toy|toy-image|toy-speech|FOLDER|FILE",
        help="the whole model, or the file of its transformer (of two, the high-noise expert)",
    )
    group.add_argument(
        "--image-model",
        metavar="NAME|FOLDER|FILE",
        help="for the kind shots: the model of shots that begin with an image, where --model makes only text "
        "to video; the other parts are those of --model",
    )
    group.add_argument(
        "--image-low-model", metavar="FILE", help="file of the low-noise expert of --image-model"
    )
    group.add_argument("--low-model", metavar="FILE", help="file of the low-noise expert")
    group.add_argument("--vae", metavar="FILE")
    group.add_argument("--text-encoder", metavar="FILE", help="UMT5")
    group.add_argument("--image-encoder", metavar="FILE", help="CLIP, only for Wan 2.1 image to video")
    group.add_argument("--audio-encoder", metavar="FILE|FOLDER", help="wav2vec 2.0, for speech")
    group.add_argument(
        "--tokenizer",
        metavar="FILE|FOLDER",
        help="tokenizer.json or spiece.model, only for a text encoder file without a tokenizer",
    )
    helpers = parser.add_argument_group(
        "helper models", "Folders as transformers saves them, with safetensors files."
    )
    helpers.add_argument(
        "--prompt-expander",
        type=Path,
        metavar="FOLDER",
        help="instruct language model, for enable_prompt_expansion",
    )
    helpers.add_argument(
        "--safety-checker",
        type=Path,
        metavar="FOLDER",
        help="text or image classifier, or both in FOLDER/text and FOLDER/image, for enable_safety_checker "
        "and enable_output_safety_checker",
    )


def add_precision(parser: argparse.ArgumentParser) -> None:
    """Add --precision."""
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=None,
        help="dtype of the computation; default: auto. stored multiplies on the numbers of quantised files "
        "where the device can, with quantised inputs: lossy, less memory; a check says what each format does",
    )


def add_residency(parser: argparse.ArgumentParser) -> None:
    """Add --residency."""
    parser.add_argument(
        "--residency",
        default=None,
        metavar="auto|resident|ring[:N]",
        help="how much of the experts stays in device memory: what fits (auto), everything (resident), or "
        "only N buffers through which blocks are streamed (ring:N); the result is the same; default: auto",
    )


def seconds_of(text: str) -> float:
    """Read a flag that is a number of seconds."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds; give one above 0")
    return seconds


def read_request(options: argparse.Namespace) -> WanRequest:
    """Read the request from the file and the flags. A flag overrides the file."""
    if options.request is None and not values_of_flags(options):
        raise RequestError.of("REQUEST.json", "not given", "give a file, - to read stdin, or --prompt")
    values = {} if options.request is None else read_json(_read(options.request))
    # Loading a model reads headers alone.
    model = None if options.preset is None else chosen_model(options)
    family = None if model is None else model.family
    return parse(options.kind, with_flags(options, options.kind, values, family))


def read_requests(options: argparse.Namespace) -> list[WanRequest]:
    """Read the request of each result, in the container that the suffix of the output names."""
    request = read_request(options)
    if options.output.suffix.lower() == ".mov":
        request = with_local(request, {"container": "mov"})
    return one_per_seed(request)


def with_flags(
    options: argparse.Namespace, kind: str, values: Mapping[str, Any], family: Family | None
) -> dict[str, Any]:
    """Return the fields of a request of `kind` with those of the flags, which win, and those of --preset.

    family: of the model that --preset is for; None for the usual one of the kind.
    """
    flags = values_of_flags(options)
    if isinstance(values.get(LOCAL), dict) and LOCAL in flags:
        flags[LOCAL] = {**values[LOCAL], **flags[LOCAL]}
    values = {**values, **flags}
    if options.preset is None:
        return values
    return with_preset(options.preset, class_of(kind), family, values)


def _read(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise RequestError.of("REQUEST.json", f"{file}: {error.strerror}", "give a readable file") from None


def load_chosen(options: argparse.Namespace, model: str, precision: Any) -> WanModel:
    """Load `model` with the parts, the helpers and the choices of the command line."""
    from ..download.folders import remote_folder
    from ..kernels.choices import Preferences
    from ..loading.file_settings import opens_pickles
    from ..loading.wan_model import load_model

    # A check has none of these flags.
    compiler = COMPILER if getattr(options, "compile", False) else None
    loaded = load_model(
        model,
        low=options.low_model,
        vae=options.vae,
        text_encoder=options.text_encoder,
        tokenizer=options.tokenizer,
        image_encoder=options.image_encoder,
        precision=precision or "auto",
        residency=getattr(options, "residency", None) or "auto",
        preferences=Preferences(
            attention=getattr(options, "attention", None),
            kernels=getattr(options, "kernels", None),
            compiler=compiler,
        ),
        audio_encoder=options.audio_encoder,
        open_pickles=opens_pickles(remote_folder()),
    )
    return replace(loaded, prompt_expander=options.prompt_expander, safety_checker=options.safety_checker)


def chosen_image_model(options: argparse.Namespace, precision: Any = "auto") -> WanModel | None:
    """Return the model of --image-model; for shots on the embedded model, the one that belongs to it."""
    name = options.image_model
    if name is None and options.kind == SHOTS and options.model == TOY:
        name = TOY_IMAGE
    if name is None:
        return None
    options = argparse.Namespace(**{**vars(options), "low_model": options.image_low_model})
    return load_chosen(options, name, precision)


def chosen_model(options: argparse.Namespace) -> WanModel | None:
    """Return the model of --model, or None without one. Raises RequestError when only its parts are given."""
    if options.model is None:
        _refuse_parts_alone(options)
        return None
    return load_chosen(options, options.model, getattr(options, "precision", None))


def _refuse_parts_alone(options: argparse.Namespace) -> None:
    parts = ("low-model", "vae", "text-encoder", "tokenizer", "image-encoder", "audio-encoder")
    for flag in (f"--{part}" for part in parts):
        if getattr(options, flag[2:].replace("-", "_")) is not None:
            raise RequestError.of(flag, "given without --model", "give the transformer as --model")
