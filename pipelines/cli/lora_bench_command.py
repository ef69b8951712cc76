"""`wan-duet lora bench`: one video for each LoRA, expert, strength, prompt and seed, and how they compare."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import RequestError
from ..request.parse import read_json
from ..request.report import Finding
from .batch_lines import RowLines
from .request_flags import add_model_flags
from .run_flags import add_run_flags, showing_residency, worker_of
from .subcommands import add_command
from .terminal import print_findings

__all__ = ["add_lora_bench"]


def add_lora_bench(verbs: Any) -> None:
    """Add `lora bench` to the verbs of `lora`."""
    text = (
        "make a video for each LoRA, expert, strength, prompt and seed, and one without a LoRA, to compare; "
        "after a stop the same command goes on"
    )
    bench = add_command(verbs, "bench", _bench, text)
    bench.add_argument("files", nargs="+", metavar="FILE", help="LoRA files, or toy/NAME")
    bench.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="folder of all results"
    )
    bench.add_argument("--strengths", default="1", metavar="X,X,...", help="strengths; default: 1")
    bench.add_argument("--experts", default="both", metavar="high,low,both", help="default: both")
    prompts = bench.add_mutually_exclusive_group(required=True)
    prompts.add_argument("--prompts", type=Path, metavar="FILE", help="a text file with one prompt a line")
    prompts.add_argument("--prompt", metavar="TEXT", help="one prompt")
    bench.add_argument("--seeds", type=int, default=1, metavar="N", help="how many seeds; default: 1")
    bench.add_argument("--seed", type=int, default=0, metavar="N", help="the first seed; default: 0")
    bench.add_argument(
        "--request", type=Path, metavar="REQUEST.json", help="all other fields, the same for every video"
    )
    add_run_flags(bench)
    add_model_flags(bench)


def _bench(options: argparse.Namespace) -> int:
    """Run the cells and compare them. Returns 1 if one has failed."""
    from ..fleet.batch_folder import BatchFolder
    from ..fleet.local_place import LocalPlace
    from ..fleet.lora_bench import bench_of, run_bench
    from ..fleet.lora_cells import experts_in, strengths_in
    from ..fleet.lora_comparison import compare

    if options.seeds < 1:
        raise RequestError.of("--seeds", f"got {options.seeds}", "give 1 or more")
    bench = bench_of(
        options.files,
        strengths_in(options.strengths),
        experts_in(options.experts),
        kind=options.kind,
        values=_values(options),
        prompts=_prompts(options),
        seeds=range(options.seed, options.seed + options.seeds),
    )
    with showing_residency():
        worker = replace(worker_of(options, keeps=True), tell=_Once())
        result = run_bench(bench, BatchFolder(options.output), LocalPlace(worker), RowLines())
    if result.failed or result.waiting:
        there = f"{result.done} of {len(bench.cells)} videos are there"
        print(f"{there}; the same command goes on", file=sys.stderr)
        return 1
    compared = compare(bench, options.output, worker.model, worker.progress)
    if options.json:
        print(json.dumps({"table": compared.table, "folder": str(options.output)}, indent=2))
    else:
        print("\n".join([*compared.lines(), str(options.output)]))
    return 0


class _Once:
    """Prints each finding once: those of one video are those of the next."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def __call__(self, findings: Sequence[Finding]) -> None:
        new = [finding for finding in findings if finding.line() not in self._told]
        self._told.update(finding.line() for finding in new)
        print_findings(new)


def _values(options: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of --request."""
    if options.request is None:
        return {}
    try:
        return read_json(options.request.read_bytes())
    except OSError as error:
        raise RequestError.of("--request", f"{options.request}: {error.strerror}", "give a file") from None


def _prompts(options: argparse.Namespace) -> list[str]:
    if options.prompts is None:
        return [options.prompt]
    try:
        lines = options.prompts.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError.of("--prompts", f"{options.prompts}: {error}", "give a text file") from None
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise RequestError.of("--prompts", f"{options.prompts} has no prompt", "write one prompt a line")
    return prompts
