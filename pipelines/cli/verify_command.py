"""`wan-duet verify`: says of a finished file whether it is what its receipt says."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..device.memory import DeviceMemory
from ..download.folders import data_folder
from ..embedded.toy_model import EMBEDDED, embedded_loras
from ..errors import RequestError
from .request_flags import add_model, load_chosen
from .subcommands import add_command, add_interpolator_folders
from .terminal import TerminalProgress

if TYPE_CHECKING:
    from ..generate.local_receipt import Recorded
    from ..generate.verification import Verification
    from ..loading.wan_model import WanModel

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
    verify.add_argument("--device", help="cpu, cuda, cuda:1, mps; default: the best there is")
    verify.add_argument(
        "--cache",
        type=Path,
        default=data_folder() / "loras",
        metavar="FOLDER",
        help="folder for downloaded LoRAs; default: %(default)s",
    )
    add_model(verify)
    add_interpolator_folders(verify)


def _verify(options: argparse.Namespace) -> int:
    found = _verification(options)
    print(json.dumps(found.as_dict(), indent=2) if options.json else found.text())
    return _EXIT_CODES[found.verdict]


def _verification(options: argparse.Namespace) -> Verification:
    from ..download.downloads import Downloads
    from ..generate.verification import verify_by_running, verify_quickly
    from ..interpolation.interpolator_files import find_interpolators
    from ..weights.lora.find import LoraSources

    if options.quick:
        return verify_quickly(options.file, options.receipt)

    def load(recorded: Recorded) -> WanModel:
        if options.model is None and recorded.model_name not in EMBEDDED:
            found = f"not given, and the receipt used {recorded.model_name}"
            raise RequestError.of("--model", found, "give its folder or files, or --quick")
        return load_chosen(options, options.model or recorded.model_name, recorded.precision)

    return verify_by_running(
        options.file,
        load,
        memory=DeviceMemory(options.device),
        progress=TerminalProgress(sys.stderr),
        receipt=options.receipt,
        interpolators=find_interpolators(options.interpolator_folder),
        lora_sources=LoraSources(embedded=embedded_loras(), downloads=Downloads.into(options.cache)),
    )
