"""`wan-duet`, also `python -m wan_duet`: checks, plans and runs requests without ComfyUI.

Answers go to stdout, progress and errors to stderr. Exit codes: 0 done, 1 a run failed, 2 the request is
wrong or cannot be honoured, 130 stopped by the user, 141 nobody reads the answer any more.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..device.memory import DeviceMemory
from ..device.precision import PRECISIONS
from ..download.folders import data_folder
from ..embedded.toy_model import EMBEDDED, embedded_loras
from ..errors import RequestError, WanDuetError
from ..files.on_disk import write_whole
from ..kernels.kernel_names import ATTENTIONS, COMPILER, KERNELS
from ..plan.expectation import Expectation, expect, read_rates, write_rates
from ..plan.families import Family, default_family
from ..plan.flops import SIZES, size_of
from ..plan.plan import Plan, describe, make_plan
from ..plan.sigma_picture import picture_of_plan
from ..progress import Progress
from ..request.base import WanRequest
from ..request.check import RUNNERS, check, check_all
from ..request.field_case import LocalAbilities
from ..request.field_rows import MEDIA
from ..request.flags import add_flags, given
from ..request.kinds import KIND_NAMES, class_of, describe_kinds, json_schema
from ..request.media_facts import MediaFacts
from ..request.parse import parse, read_json
from ..request.report import side_by_side
from ..request.seeds import seed_of
from ..version import VERSION
from ..video.output import SUFFIXES, require_writable
from .jobs_command import add_jobs_command
from .keys_command import add_keys_command
from .lora_command import add_lora_command
from .media_command import add_media_command
from .models_command import add_models_command, rates_file
from .remote_command import (
    add_novita_model,
    add_remote_flags,
    generate_remotely,
    known_prices,
    novita_model,
    require_local_flags,
)
from .terminal import TerminalProgress, quiet_pipes, run_command

if TYPE_CHECKING:
    from ..generate.local_run import Result
    from ..generate.memory_estimate import MemoryEstimate
    from ..loading.wan_model import WanModel
    from ..weights.lora.find import LoraSources

__all__ = ["main"]

_DEFAULT_KIND = "text-to-video"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    with quiet_pipes():
        options = _parser(_kind_of(arguments)).parse_args(arguments)
        return run_command(
            lambda: int(options.command(options)), lambda error: _print_error(error, as_json=options.json)
        )


def _kind_of(arguments: Sequence[str] | None) -> str:
    """The value of --kind: it decides which flags there are. A wrong one is refused by the real parser."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--kind", nargs="?", default=_DEFAULT_KIND)
    kind: str = parser.parse_known_args(arguments)[0].kind
    return kind if kind in KIND_NAMES else _DEFAULT_KIND


def _parser(kind: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="wan-duet", description="One request for the Wan 2.2 video models.")
    parser.add_argument("--version", action="version", version=VERSION)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: Any, text: str) -> argparse.ArgumentParser:
        # No abbreviations: --model must not become --model-name where a kind has such a field.
        added: argparse.ArgumentParser = commands.add_parser(
            name, help=text, description=text, allow_abbrev=False
        )
        added.set_defaults(command=function)
        added.add_argument("--json", action="store_true", help="answer with JSON on stdout")
        return added

    generate = command("generate", _generate, "run a request; writes the result and its receipt")
    generate.add_argument(
        "--on", choices=RUNNERS, default="local", help="where to run it; default: %(default)s"
    )
    generate.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help=".mp4, .png or .jpg"
    )
    generate.add_argument(
        "--from-receipt",
        type=Path,
        metavar="OUT.json",
        help="repeat the run of a receipt exactly; inputs are looked up in the current folder, unless --kind "
        "and their flags are given",
    )

    generate.add_argument(
        "--precision", choices=PRECISIONS, default=None, help="dtype of the computation; default: auto"
    )
    generate.add_argument("--device", help="cpu, cuda, cuda:1, mps; default: the best there is")
    _add_residency(generate)
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
        type=_seconds,
        metavar="S",
        help="cut the video after S seconds; default: the length of the sound",
    )

    add_remote_flags(generate)
    _add_request(generate, kind)

    checked = command("check", _check, "say what a runner supports, adjusts or cannot do; loads no weights")
    checked.add_argument(
        "--on",
        type=_runners,
        default=["local"],
        metavar="RUNNERS",
        help="local,fal,novita or all; default: local",
    )
    add_novita_model(checked)
    _add_request(checked, kind)

    planned = command("plan", _plan, "print all settings that a run would use; loads no weights")
    planned.add_argument("--input-size", type=_size, metavar="WxH", help="size of the input image or video")
    _add_residency(planned)
    planned.add_argument(
        "--seconds-per-forward",
        type=_seconds,
        metavar="S",
        help="measured seconds of one forward; adds an estimate of the time",
    )
    planned.add_argument(
        "--picture",
        type=_svg,
        metavar="OUT.svg",
        help="also draw the noise levels, the steps of each expert and the switch between them",
    )
    _add_request(planned, kind)

    measured = command(
        "bench", _bench, "measure this machine and estimate how many seconds a request takes; does not run it"
    )
    measured.add_argument("--device", help="cpu, cuda, cuda:1, mps; default: the best there is")
    _add_request(measured, kind)

    command("kinds", _kinds, "list the kinds of request")
    schema = command("schema", _schema, "print the JSON Schema of a kind")
    schema.add_argument("kind", choices=list(KIND_NAMES), metavar="KIND")
    add_jobs_command(commands)
    add_keys_command(commands)
    add_lora_command(commands)
    add_media_command(commands)
    add_models_command(commands)
    return parser


def _add_request(parser: argparse.ArgumentParser, kind: str) -> None:
    parser.add_argument("request", nargs="?", metavar="REQUEST.json", help="a JSON object; - reads stdin")
    parser.add_argument(
        "--kind", choices=list(KIND_NAMES), default=_DEFAULT_KIND, metavar="KIND", help="default: %(default)s"
    )
    _add_model(parser)
    parser.add_argument(
        "--interpolator-folder",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="a folder with FILM or RIFE files; may be repeated",
    )
    add_flags(parser, kind)


def _add_model(parser: argparse.ArgumentParser) -> None:
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


def _add_residency(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--residency",
        default=None,
        metavar="auto|resident|ring[:N]",
        help="how much of the experts stays in device memory: what fits (auto), everything (resident), or "
        "only N buffers through which blocks are streamed (ring:N); the result is the same; default: auto",
    )


def _runners(text: str) -> list[str]:
    names = list(RUNNERS) if text == "all" else text.split(",")
    for name in names:
        if name not in RUNNERS:
            raise argparse.ArgumentTypeError(f"{name!r} is not a runner; use {', '.join(RUNNERS)} or all")
    return names


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write it as 1920x1080")
    return int(found[1]), int(found[2])


def _svg(text: str) -> Path:
    if not text.lower().endswith(".svg"):
        raise argparse.ArgumentTypeError(f"{text!r} is no .svg file; write OUT.svg")
    return Path(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds; give one above 0")
    return seconds


def _generate(options: argparse.Namespace) -> int:
    if options.on != "local":
        return generate_remotely(_read_request(options), options)
    require_local_flags(options)
    if options.output.suffix.lower() not in SUFFIXES:
        fix = f"give a name that ends in {', '.join(SUFFIXES)}"
        raise RequestError.of("--output", str(options.output), fix)
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
        request = _read_request(options)
        model = _load(options, _required_model(options), options.precision)
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
        )
    flags = given(options)
    for flag in ("attention", "kernels", "compile"):
        if getattr(options, flag):
            fix = "leave it out: the receipt decides it"
            raise RequestError.of(f"--{flag}", "given together with --from-receipt", fix)
    if options.request is not None or not flags.keys() <= set(MEDIA):
        raise RequestError.of("REQUEST.json", "given together with --from-receipt", "give one of the two")
    recorded = read_receipt(options.from_receipt)
    if options.model is None and recorded.model_name not in EMBEDDED:
        found = f"not given, and the receipt used {recorded.model_name}"
        raise RequestError.of("--model", found, "give the folder or the files of that model")
    model = _load(options, options.model or recorded.model_name, options.precision or recorded.precision)
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
    )


def _abilities(options: argparse.Namespace, model: WanModel | None) -> LocalAbilities:
    """Return what the local runner can do. Without a model and a folder this does not load torch."""
    known = LocalAbilities()
    if model is not None or options.interpolator_folder:
        from ..generate.local_run import local_abilities
        from ..generate.required_weights import with_lightning
        from ..interpolation.interpolator_files import find_interpolators
        from ..weights.lora.find import LoraSources

        if model is not None:
            model = with_lightning(model, class_of(options.kind).task, LoraSources())
        known = local_abilities(find_interpolators(options.interpolator_folder), model)
    return replace(
        known,
        prompt_expander=options.prompt_expander is not None,
        safety_checker=options.safety_checker is not None,
    )


def _lora_sources(options: argparse.Namespace) -> LoraSources:
    """Any local file, the embedded LoRAs, and the web."""
    from ..download.downloads import Downloads
    from ..weights.lora.find import LoraSources

    return LoraSources(embedded=embedded_loras(), downloads=Downloads.into(options.cache))


def _check(options: argparse.Namespace) -> int:
    """Print the report. Returns 0 when at least one of the requested runners can run the request."""
    request = _read_request(options)
    model = _chosen_model(options) if "local" in options.on else None
    family = _family(options, model) if "local" in options.on else None
    abilities, novita = _abilities(options, model), novita_model(options, options.on)
    reports = check_all(request, options.on, family, abilities, known_prices(), novita)
    expected = None if family is None else _expected(request, family, model, abilities)
    if options.json:
        answers = [report.as_dict() for report in reports]
        for answer in answers:
            if expected is not None and answer["runner"] == "local":
                answer["expected"] = expected.as_dict()
        answer = answers[0] if len(answers) == 1 else {"reports": answers}
        print(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        print(reports[0].text() if len(reports) == 1 else side_by_side(reports))
        if expected is not None:
            print(expected.text())
    return 0 if any(report.ok for report in reports) else 2


def _bench(options: argparse.Namespace) -> int:
    from ..device.memory import compute_dtype
    from ..kernels.rates import measure_rates

    request, model = _read_request(options), _chosen_model(options)
    family, memory = _family(options, model), DeviceMemory(options.device)
    write_rates(rates_file(), measure_rates(memory.device, compute_dtype("auto", memory, "transformer")))
    expected = _expected(request, family, model, _abilities(options, model))
    if expected is None:
        raise RequestError.of(
            "--kind", f"{family.name} cannot run this request", "use `wan-duet check` to see why"
        )
    print(json.dumps(expected.as_dict(), indent=2) if options.json else expected.text())
    return 0


def _expected(
    request: WanRequest, family: Family, model: WanModel | None, abilities: LocalAbilities
) -> Expectation | None:
    """Estimate the time. Returns None when this machine was not measured or cannot run the request."""
    rates = read_rates(rates_file())
    resolved = check(request, family=family, abilities=abilities).resolved
    size = SIZES.get(family.name) if model is None else size_of(model.experts["high"].config)
    if rates is None or size is None or resolved is None:
        return None
    return expect(make_plan(resolved, family, seed_of(request) or 0), size, rates)


def _plan(options: argparse.Namespace) -> int:
    request, model = _read_request(options), _chosen_model(options)
    family, seed, abilities = _family(options, model), seed_of(request), _abilities(options, model)
    whole = replace(abilities, missing_weights={})  # a plan may be looked at before its weights are there
    media = MediaFacts(size=options.input_size)
    resolved = check(request, family=family, abilities=whole, media=media).require()
    plan = make_plan(resolved, family, seed or 0)
    if options.picture is not None:
        require_writable(options.picture)
        write_whole(options.picture, picture_of_plan(plan))
    text = describe(plan, seconds_per_forward=options.seconds_per_forward)
    estimate = None if model is None else _memory_estimate(model, plan)
    if options.json:
        report = check(request, family=family, abilities=abilities)
        numbers = {**plan.as_dict(), "seed": seed}  # an unset seed is drawn when the request runs
        memory = None if estimate is None else estimate.as_dict()
        answer = {"text": text, "plan": numbers, "report": report.as_dict(), "memory": memory}
        print(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        print(text if estimate is None else f"{text}\n{estimate.text()}")
    return 0


def _memory_estimate(model: WanModel, plan: Plan) -> MemoryEstimate:
    from ..generate.memory_estimate import estimate_memory

    return estimate_memory(model, DeviceMemory(), plan.latent_shape, plan.experts[plan.start_step :])


def _kinds(options: argparse.Namespace) -> int:
    kinds = describe_kinds()
    if options.json:
        print(json.dumps(kinds, indent=2))
    else:
        width = max(len(kind["kind"]) for kind in kinds)
        for kind in kinds:
            print(f"{kind['kind']:<{width}}  {kind['title']} ({kind['endpoint']})")
    return 0


def _schema(options: argparse.Namespace) -> int:
    print(json.dumps(json_schema(options.kind), indent=2, ensure_ascii=False))
    return 0


def _read_request(options: argparse.Namespace) -> WanRequest:
    """Read the request from the file and the flags. A flag overrides the file."""
    flags = given(options)
    if options.request is None and not flags:
        raise RequestError.of("REQUEST.json", "not given", "give a file, - to read stdin, or --prompt")
    values = {} if options.request is None else read_json(_read(options.request))
    return parse(options.kind, {**values, **flags})


def _read(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise RequestError.of("REQUEST.json", f"{file}: {error.strerror}", "give a readable file") from None


def _required_model(options: argparse.Namespace) -> str:
    if options.model is None:
        raise RequestError.of("--model", "not given", "give toy, a folder in diffusers layout, or a file")
    return str(options.model)


def _load(options: argparse.Namespace, model: str, precision: Any) -> WanModel:
    from ..kernels.choices import Preferences
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
    )
    return replace(loaded, prompt_expander=options.prompt_expander, safety_checker=options.safety_checker)


def _chosen_model(options: argparse.Namespace) -> WanModel | None:
    if options.model is None:
        _refuse_parts_alone(options)
        return None
    return _load(options, options.model, "auto")


def _family(options: argparse.Namespace, model: WanModel | None) -> Family:
    """Return the family of --model, or without one the usual family of the kind."""
    return default_family(class_of(options.kind).task) if model is None else model.family


def _refuse_parts_alone(options: argparse.Namespace) -> None:
    parts = ("low-model", "vae", "text-encoder", "tokenizer", "image-encoder", "audio-encoder")
    for flag in (f"--{part}" for part in parts):
        if getattr(options, flag[2:].replace("-", "_")) is not None:
            raise RequestError.of(flag, "given without --model", "give the transformer as --model")


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
    for adjustment in result.receipt["adjustments"]:
        print(f"adjusted {adjustment['field']}: {adjustment['reason']}", file=sys.stderr)
    print(result.path)


def _print_error(error: WanDuetError, *, as_json: bool) -> None:
    if as_json:
        answer: dict[str, Any] = {"error": type(error).__name__, "message": str(error)}
        if isinstance(error, RequestError):
            answer["problems"] = [vars(problem) for problem in error.problems]
        print(json.dumps(answer, ensure_ascii=False), file=sys.stderr)
    else:
        print(f"error: {error}", file=sys.stderr)
