"""The declarations that commands share: a command, a group of commands, folders."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["add_command", "add_folder", "add_group", "add_interpolator_folders", "folder_of"]


def add_command(
    commands: Any, name: str, function: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    """Add the command `name`, which runs `function` and knows --json, to what `add_subparsers` returned."""
    # No abbreviations: --model must not become --model-name where a kind has such a field.
    added: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text, allow_abbrev=False
    )
    added.set_defaults(command=function)
    added.add_argument("--json", action="store_true", help="answer with JSON on stdout")
    return added


def add_group(commands: Any, name: str, text: str) -> Any:
    """Add a command that only has commands of its own. Returns what takes these."""
    group = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
    return group.add_subparsers(required=True, metavar="COMMAND")


def add_interpolator_folders(parser: argparse.ArgumentParser) -> None:
    """Add --interpolator-folder."""
    parser.add_argument(
        "--interpolator-folder",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="a folder with FILM or RIFE files; may be repeated",
    )


def add_folder(parser: Any, holds: str = "journal and keys") -> None:
    """Add --folder, where a user has jobs and keys elsewhere. holds: what the command looks for there."""
    parser.add_argument(
        "--folder",
        type=Path,
        help=f"folder of {holds}; default: that of $COMFYUI_PATH, else that of the user",
    )


def folder_of(options: argparse.Namespace) -> Path:
    """Return the folder of --folder."""
    from ..download.folders import remote_folder

    folder: Path = options.folder or remote_folder()
    return folder
