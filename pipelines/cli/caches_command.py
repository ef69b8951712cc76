"""`wan-duet caches`: where compiled kernels stay, how large they are, and how they are removed."""

from __future__ import annotations

import argparse
import json
from typing import Any

from .subcommands import add_command, add_group

__all__ = ["add_caches_command"]


def add_caches_command(commands: Any) -> None:
    """Add `caches` to the commands of an argument parser (what `add_subparsers` returned)."""
    verbs = add_group(commands, "caches", "kernels that were compiled, kept for the next process")
    add_command(verbs, "list", _list, "list the folders of torch.compile and triton, and their sizes")
    add_command(verbs, "remove", _remove, "remove the folder that only this pack uses")


def _list(options: argparse.Namespace) -> int:
    from ..kernels.compile_caches import compile_caches

    found = compile_caches()
    if options.json:
        told = [
            {"of": one.of, "folder": str(one.folder), "bytes": one.size_bytes, "ours": one.is_ours}
            for one in found
        ]
        print(json.dumps(told))
        return 0
    for one in found:
        shared = "" if one.is_ours else "  (not only ours)"
        print(f"{one.of:<13}  {one.size_bytes / 2**20:8.1f} MiB  {one.folder}{shared}")
    return 0


def _remove(options: argparse.Namespace) -> int:
    from ..kernels.compile_caches import remove_compiled

    removed = [str(one.folder) for one in remove_compiled()]
    if options.json:
        print(json.dumps({"removed": removed}))
    else:
        print("\n".join(f"removed {folder}" for folder in removed) or "nothing to remove")
    return 0
