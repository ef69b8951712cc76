"""`wan-duet`, also `python -m wan_duet`: the request language and the local runner without ComfyUI.

Answers go to stdout, progress and errors to stderr. Exit codes: 0 done, 1 a run failed, 2 the request is
wrong or cannot be honoured, 130 stopped by the user.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import RequestError, WanDuetError
from .memory import PRECISIONS, DeviceMemory
from .plan.families import FAMILIES, Family
from .plan.plan import describe, make_plan
from .progress import Progress
from .request.base import WanRequest
from .request.check import check
from .request.kinds import KINDS, describe_kinds, json_schema
from .request.parse import parse
from .version import VERSION

if TYPE_CHECKING:
    from .local import Result
    from .models.wan_model import WanModel

__all__ = ["main"]

_DEFAULT_FAMILY = "wan2.2-t2v-a14b"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a legacy console must not break on a prompt
    options = _parser().parse_args(arguments)
    try:
        code: int = options.command(options)
    except WanDuetError as error:
        _print_error(error, as_json=options.json)
        return 2 if isinstance(error, RequestError) else 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="wan-duet", description="One request for the Wan 2.2 video models.")
    parser.add_argument("--version", action="version", version=VERSION)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: Any, text: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
        added.set_defaults(command=function)
        added.add_argument("--json", action="store_true", help="answer with JSON on stdout")
        return added

    generate = command("generate", _generate, "run a request and write the video and its receipt")
    _add_request(generate, optional=True)
    generate.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.mp4")
    generate.add_argument(
        "--from-receipt", type=Path, metavar="OUT.json", help="repeat the run of a receipt exactly"
    )

    generate.add_argument(
        "--precision", choices=PRECISIONS, default=None, help="what networks compute in; default: auto"
    )
    generate.add_argument("--device", help="cpu, cuda, cuda:1, mps; default: the best there is")

    _add_request(command("check", _check, "say what a runner supports, adjusts or cannot do; loads nothing"))
    _add_request(command("plan", _plan, "print every number a run would use; loads nothing"))

    command("kinds", _kinds, "list the kinds of request")
    schema = command("schema", _schema, "print the JSON Schema of a kind")
    schema.add_argument("kind", choices=list(KINDS), metavar="KIND")
    return parser


def _add_request(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    parser.add_argument(
        "request",
        nargs="?" if optional else None,
        metavar="REQUEST.json",
        help="a JSON object; - reads stdin",
    )
    parser.add_argument("--kind", choices=list(KINDS), default="text-to-video", help="default: %(default)s")
    parser.add_argument("--on", choices=["local"], default="local", help="the runner; default: %(default)s")
    parser.add_argument(
        "--model", metavar="toy|FOLDER", help="the embedded model, or a folder in diffusers layout"
    )


def _generate(options: argparse.Namespace) -> int:
    from .terminal import TerminalProgress, stopped_by_sigterm

    if options.output.suffix.lower() != ".mp4":
        raise RequestError.of("--output", str(options.output), "give a file name that ends in .mp4")
    with stopped_by_sigterm():
        result = _make(options, TerminalProgress(sys.stderr))
    _print_result(result, as_json=options.json)
    return 0


def _make(options: argparse.Namespace, progress: Progress) -> Result:
    from .local import repeat, run
    from .receipt import read_receipt

    if options.from_receipt is None:
        request = _read_request(options)
        model = _load(_required_model(options), options.precision)
        return run(request, model, out=options.output, memory=DeviceMemory(options.device), progress=progress)
    if options.request is not None:
        raise RequestError.of("REQUEST.json", "given beside --from-receipt", "give one of the two")
    recorded = read_receipt(options.from_receipt)
    model = _load(options.model or recorded.model_name, options.precision or recorded.precision)
    return repeat(recorded, model, out=options.output, memory=DeviceMemory(options.device), progress=progress)


def _check(options: argparse.Namespace) -> int:
    report = check(_read_request(options), options.on, family=_family(options))
    print(json.dumps(report.as_dict(), indent=2, ensure_ascii=False) if options.json else report.text())
    return 0 if report.ok else 2


def _plan(options: argparse.Namespace) -> int:
    request, family = _read_request(options), _family(options)
    report = check(request, options.on, family=family)
    seed = getattr(request, "seed", None)
    plan = make_plan(request, family, seed or 0, report=report)
    if options.json:
        numbers = {**plan.as_dict(), "seed": seed}  # an unset seed is drawn when the request runs
        answer = {"text": describe(plan), "plan": numbers, "report": report.as_dict()}
        print(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        print(describe(plan))
    return 0


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
    if options.request is None:
        raise RequestError.of("REQUEST.json", "not given", "give a file, or - to read stdin")
    if options.request == "-":
        return parse(options.kind, sys.stdin.buffer.read())
    try:
        return parse(options.kind, Path(options.request).read_bytes())
    except OSError as error:
        raise RequestError.of(
            "REQUEST.json", f"{options.request}: {error.strerror}", "give a readable file"
        ) from None


def _required_model(options: argparse.Namespace) -> str:
    if options.model is None:
        raise RequestError.of("--model", "not given", "give toy, or a folder in diffusers layout")
    return str(options.model)


def _load(model: str, precision: Any) -> WanModel:
    from .models.wan_model import load_model

    return load_model(model, precision=precision or "auto")


def _family(options: argparse.Namespace) -> Family:
    """The family of --model; without one, the family the kind was made for."""
    return FAMILIES[_DEFAULT_FAMILY] if options.model is None else _load(options.model, "auto").family


def _print_result(result: Result, *, as_json: bool) -> None:
    if as_json:
        answer = {
            "video": str(result.path),
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


if __name__ == "__main__":
    sys.exit(main())
