"""`wan-duet train`: has a LoRA trained at a provider from a folder or a ZIP file, after asking."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from ..errors import RequestError
from ..request.flags import add_row_flags, values_of_flags
from ..request.kinds import TRAININGS, training_table
from .subcommands import add_command, add_folder, folder_of
from .terminal import agreed

__all__ = ["add_train_command"]

_FOR = {name.rpartition("-")[2]: name for name in TRAININGS}  # {"t2v": "train-lora-t2v"}


def add_train_command(commands: Any) -> None:
    """Add `train` to the commands of an argument parser (what `add_subparsers` returned)."""
    text = (
        "train a LoRA at fal: shows the dataset and the price, asks, uploads and waits; the same command "
        "again, or `jobs attach`, goes on with a training that was broken off"
    )
    train = add_command(commands, "train", _train, text)
    train.add_argument(
        "dataset",
        type=Path,
        metavar="FOLDER|ZIP",
        help="images and videos, each with or without a caption of its name in a .txt file",
    )
    train.add_argument("--for", dest="model", choices=_FOR, default="t2v", help="default: %(default)s")
    train.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT.safetensors",
        help="default: a file named after the dataset in models/loras of the ComfyUI at $COMFYUI_PATH",
    )
    train.add_argument("--yes", action="store_true", help="upload and pay without asking")
    train.add_argument("--no-reuse", action="store_true", help="train again what was trained before")
    text = "submit again after the response to a submit was lost; may cost twice"
    train.add_argument("--resubmit", action="store_true", help=text)
    add_folder(train)
    add_row_flags(train, training_table(_FOR["t2v"]), "settings of the training")


def _train(options: argparse.Namespace) -> int:
    from ..remote.experience import known_spending
    from ..remote.settings import read_addresses
    from ..remote.training import training_order, without_deadline
    from ..remote.training_data import read_dataset
    from .remote_terminal import buy_and_follow, open_account, print_job

    folder = folder_of(options)
    spending = known_spending(folder)
    out = options.output or _usual_place(options.dataset, options.model)
    with tempfile.TemporaryDirectory(prefix="wan-duet-") as work:
        dataset = read_dataset(options.dataset.expanduser(), Path(work))
        settings = values_of_flags(options)
        order, prepared = training_order(_FOR[options.model], settings, dataset, out, spending.prices)
        print(f"dataset: {dataset.text()}", file=sys.stderr)
        print(f"price: {order.price.text()}", file=sys.stderr)
        if not agreed("Upload the dataset to fal, and train for this price?", yes=options.yes):
            print("Nothing was uploaded or bought.", file=sys.stderr)
            return 1
        limits = without_deadline(spending.limits)
        with open_account("fal", folder, read_addresses(folder)) as (thread, account):
            job = buy_and_follow(thread, account, order, prepared, limits, options)
    print_job(job, {"lora": job.file_path}, as_json=options.json)
    return 0


def _usual_place(dataset: Path, model: str) -> Path:
    comfyui = os.environ.get("COMFYUI_PATH")
    if not comfyui:
        raise RequestError.of("--output", "not given", "give -o OUT.safetensors, or set COMFYUI_PATH")
    return Path(comfyui) / "models" / "loras" / f"{dataset.expanduser().resolve().stem}-{model}.safetensors"
