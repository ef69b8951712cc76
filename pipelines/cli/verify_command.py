"""`wan-duet verify`: says of a finished file whether it is what its receipt says."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .request_flags import add_model
from .run_flags import add_machine_flags, load_recorded, recorded_film_worker, recorded_worker
from .subcommands import add_command, add_interpolator_folders

if TYPE_CHECKING:
    from ..generate.local_receipt import Recorded
    from ..generate.local_worker import LocalWorker
    from ..generate.recorded_film import RecordedFilm
    from ..generate.verification import Verification

__all__ = ["add_verify_command"]

_EXIT_CODES = {"same bits": 0, "same within rounding": 0, "different": 1, "cannot tell": 2}


def add_verify_command(commands: Any) -> None:
    """Add `verify` to the commands of an argument parser (what `add_subparsers` returned)."""
    text = (
        "tell whether a video or image is what its receipt says, by running its request again; answers same "
        "bits or same within rounding (exit code 0), different (1) or cannot tell (2)"
    )
    verify = add_command(commands, "verify", _verify, text)
    verify.add_argument("file", type=Path, metavar="FILE", help="a result with its receipt beside it")
    verify.add_argument("--receipt", type=Path, metavar="OUT.json", help="default: the one beside FILE")
    verify.add_argument(
        "--quick",
        action="store_true",
        help="run nothing: only compare the file with the receipts inside it and beside it",
    )
    add_machine_flags(verify)
    verify.add_argument(
        "--lora-folder",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="where to look for LoRA files, which a receipt names without their folders; may be repeated. "
        "They are also looked up beside the receipt and in the current folder",
    )
    add_model(verify)
    add_interpolator_folders(verify)


def _verify(options: argparse.Namespace) -> int:
    found = _verification(options)
    print(json.dumps(found.as_dict(), indent=2) if options.json else found.text())
    return _EXIT_CODES[found.verdict]


def _verification(options: argparse.Namespace) -> Verification:
    from ..generate.verification import verify_by_running, verify_quickly

    if options.quick:
        return verify_quickly(options.file, options.receipt)
    return verify_by_running(
        options.file,
        partial(_worker_for, options),
        options.receipt,
        worker_for_shots=partial(_worker_for_shots, options),
    )


def _worker_for(options: argparse.Namespace, recorded: Recorded) -> LocalWorker:
    """Return what runs the request of a receipt again, with its precision and its kernels."""
    model = load_recorded(options, recorded, recorded.precision, "give its folder or files, or --quick")
    return recorded_worker(options, recorded, replace(model, preferences=recorded.preferences))


def _worker_for_shots(options: argparse.Namespace, film: RecordedFilm) -> LocalWorker:
    return recorded_film_worker(options, film, "give its folder or files, or --quick")
