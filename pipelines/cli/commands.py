"""Runs `wan-duet`, also as `python -m wan_duet`: checks, plans and runs requests without ComfyUI.

Answers go to stdout, progress and errors to stderr. Exit codes: 0 done, 1 a run failed, 2 the request is
wrong or impossible, 3 the page of a provider cannot be read, 130 stopped by the user, 141 nobody reads the
answer any more.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from ..errors import RequestError, WanDuetError
from ..request.check import RUNNERS
from ..request.kinds import KIND_NAMES, describe_kinds, json_schema
from ..version import VERSION
from .batch_command import add_batch_commands
from .caches_command import add_caches_command
from .check_commands import add_bench_command, add_check_command
from .contracts_command import add_contracts_command
from .generate_command import add_generate_command
from .jobs_command import add_jobs_command
from .keys_command import add_keys_command
from .lora_command import add_lora_command
from .media_command import add_media_command
from .models_command import add_models_command
from .plan_command import add_plan_command
from .request_flags import DEFAULT_KIND
from .serve_command import add_clients_command, add_serve_command
from .subcommands import add_command
from .terminal import quiet_pipes, run_command
from .train_command import add_train_command
from .verify_command import add_verify_command
from .workers_command import add_workers_command

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code."""
    with quiet_pipes():
        options = _parser(_kind_of(arguments)).parse_args(arguments)
        return run_command(
            lambda: int(options.command(options)), lambda error: _print_error(error, as_json=options.json)
        )


def _kind_of(arguments: Sequence[str] | None) -> str:
    """Return the value of --kind, which decides the other flags. The real parser rejects a wrong one."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--kind", nargs="?", default=DEFAULT_KIND)
    kind: str = parser.parse_known_args(arguments)[0].kind
    return kind if kind in KIND_NAMES else DEFAULT_KIND


def _parser(kind: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="wan-duet", description="One request for the Wan 2.2 video models.")
    parser.add_argument("--version", action="version", version=VERSION)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_generate_command(commands, kind)
    add_batch_commands(commands, kind)
    add_check_command(commands, kind)
    add_plan_command(commands, kind)
    add_bench_command(commands, kind)
    add_command(commands, "kinds", _kinds, "list the kinds of request")
    schema = add_command(commands, "schema", _schema, "print the JSON Schema of a kind")
    schema.add_argument("kind", choices=list(KIND_NAMES), metavar="KIND")
    schema.add_argument(
        "--on",
        choices=RUNNERS,
        default="local",
        help="local: what a request may hold; a provider: the schema that it states; default: %(default)s",
    )
    add_caches_command(commands)
    add_clients_command(commands)
    add_contracts_command(commands)
    add_jobs_command(commands)
    add_keys_command(commands)
    add_lora_command(commands)
    add_media_command(commands)
    add_models_command(commands)
    add_serve_command(commands)
    add_train_command(commands)
    add_verify_command(commands)
    add_workers_command(commands)
    return parser


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
    print(json.dumps(json_schema(options.kind, options.on), indent=2, ensure_ascii=False))
    return 0


def _print_error(error: WanDuetError, *, as_json: bool) -> None:
    if as_json:
        answer: dict[str, Any] = {"error": type(error).__name__, "message": str(error)}
        if isinstance(error, RequestError):
            answer["problems"] = [vars(problem) for problem in error.problems]
        print(json.dumps(answer, ensure_ascii=False), file=sys.stderr)
    else:
        print(f"error: {error}", file=sys.stderr)
