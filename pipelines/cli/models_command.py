"""Runs `wan-duet models`: lists the weight files of each kind and their state, and downloads missing ones."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..download.folders import data_folder, remote_folder
from ..errors import RequestError
from ..plan.expectation import Rates, read_rates
from ..request import KIND_NAMES, LOCAL_KINDS
from .terminal import TerminalProgress, agreed

if TYPE_CHECKING:
    from ..model_files.catalogue import Catalogue, FileSet
    from ..model_files.inventory import Folders, Found
    from ..model_files.machine_fit import Machine

__all__ = ["add_models_command", "rates_file"]

_STATES = {"here": "here", "partly": "partly", "missing": "missing", "other": "differs"}


def add_models_command(commands: Any) -> None:
    """Add `models` and `models get` to the commands of a parser (what `add_subparsers` returned)."""
    text = (
        "list the weight files that each kind needs, which are here, which fit, and where to get the others"
    )
    models = commands.add_parser("models", help=text, description=text, allow_abbrev=False)
    models.set_defaults(command=_list)
    _add_common(models)
    verbs = models.add_subparsers(metavar="COMMAND")
    text = "download the files of a kind that are missing; asks first, resumes interrupted downloads"
    get = verbs.add_parser("get", help=text, description=text, allow_abbrev=False)
    get.set_defaults(command=_get)
    get.add_argument("kind", choices=list(KIND_NAMES), metavar="KIND", help="as `wan-duet kinds` lists them")
    get.add_argument("--size", help="fp8, gguf, ... as `wan-duet models` lists them; default: the first")
    get.add_argument("--yes", action="store_true", help="do not ask before downloading")
    _add_common(get, default=argparse.SUPPRESS)  # keeps flags before `get`


def rates_file() -> Path:
    """Return the file of rates that `wan-duet bench` measured on this machine."""
    return data_folder() / "rates.json"


def _add_common(parser: argparse.ArgumentParser, **kept: Any) -> None:
    parser.add_argument("--json", action="store_true", help="answer with JSON on stdout", **kept)
    parser.add_argument(
        "--models",
        type=Path,
        metavar="FOLDER",
        help="the models folder of ComfyUI; default: that of $COMFYUI_PATH",
        **kept,
    )


def _list(options: argparse.Namespace) -> int:
    from ..model_files.catalogue import AS_OF, read_catalogue, special_weights
    from ..model_files.inventory import find_files

    catalogue, folders = read_catalogue(remote_folder()), _folders(options)
    machine, kinds = _machine(), _kinds_by_files(catalogue)
    found = {item.file.name: item for item in find_files(catalogue.files.values(), folders)}
    rates = read_rates(rates_file())

    def described(kind: str) -> list[dict[str, Any]]:
        return [
            _described(kind, size, files, [found[file.name] for file in files.files], machine, rates)
            for size, files in catalogue.sets(kind).items()
        ]

    groups = [described(names[0]) for names in kinds]
    if options.json:
        answer = [
            {"kinds": names, "sizes": sizes, "elsewhere": special_weights(names[0])}
            for names, sizes in zip(kinds, groups, strict=True)
        ]
        print(json.dumps({"as_of": AS_OF, "groups": answer}, indent=2))
        return 0
    for names, sizes in zip(kinds, groups, strict=True):
        print(", ".join(names))
        for size in sizes:
            print(_size_text(size))
        if not sizes:
            print(f"  needs {special_weights(names[0])}")
    print(f"\nAs of {AS_OF}. Get what is missing with: wan-duet models get KIND --size SIZE")
    return 0


def _get(options: argparse.Namespace) -> int:
    from ..model_files.catalogue import read_catalogue
    from ..model_files.get_files import get_files, web_of
    from ..model_files.inventory import find_files, require_room, to_fetch

    catalogue = read_catalogue(remote_folder())
    wanted = catalogue.choose(options.kind, options.size)
    found = find_files(wanted.files, _folders(options))
    missing = to_fetch(found)
    for item in found:
        print(_file_text(item), file=sys.stderr)
    require_room(missing)
    if missing:
        left = _gb(sum(item.left_bytes for item in missing))
        question = f"Download {len(missing)} of {len(found)} files, {left}, from {_hosts(missing)}?"
        if not agreed(question, yes=options.yes):
            print("Nothing was downloaded.", file=sys.stderr)
            return 1
    got = get_files(found, web_of(catalogue), TerminalProgress(sys.stderr))
    if options.json:
        places = {slot: str(_place(found, file.name)) for slot, file in wanted.slots.items()}
        print(json.dumps({"downloaded": [str(path) for path in got], "model": places}, indent=2))
    else:
        print("\n".join(str(path) for path in got) if got else "All files are here.")
    return 0


def _folders(options: argparse.Namespace) -> Folders:
    from ..model_files.inventory import comfyui_folders

    comfyui = os.environ.get("COMFYUI_PATH")
    models = options.models or (Path(comfyui) / "models" if comfyui else None)
    if models is None or not models.is_dir():
        found = "not given" if models is None else f"{models} is no folder"
        raise RequestError.of("--models", found, "give the models folder of a ComfyUI, or set COMFYUI_PATH")
    return comfyui_folders(models)


def _kinds_by_files(catalogue: Catalogue) -> list[list[str]]:
    """Return the kinds in groups that need the same files."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for kind in LOCAL_KINDS:
        names = tuple(file.name for files in catalogue.sets(kind).values() for file in files.files)
        groups.setdefault(names or (kind,), []).append(kind)
    return list(groups.values())


def _machine() -> Machine:
    from ..device.memory import DeviceMemory
    from ..device.ram import free_ram
    from ..model_files.machine_fit import Machine

    memory = DeviceMemory()
    return Machine(str(memory.device), memory.free_bytes(), free_ram())


def _described(
    kind: str, size: str, files: FileSet, found: Sequence[Found], machine: Machine, rates: Rates | None
) -> dict[str, Any]:
    """Return one size of a kind as JSON values. seconds: of the default request, None if not measured."""
    from ..model_files.machine_fit import expected, fit

    expectation = expected(kind, files.family, rates)
    return {
        "size": size,
        "model": files.family,
        "bytes": files.size_bytes,
        "fit": fit(files, machine),
        "seconds": None if expectation is None else round(expectation.total_s, 1),
        "files": [
            {
                "file": item.file.name,
                "folder": item.file.folder,
                "state": item.state,
                "bytes": item.file.size_bytes,
                "have_bytes": item.file.size_bytes - item.left_bytes if item.state != "other" else None,
                "place": str(item.place),
                "url": item.file.url,
                "page": item.file.page,
            }
            for item in found
        ],
    }


def _size_text(size: dict[str, Any]) -> str:
    took = "" if size["seconds"] is None else f"; a default request takes about {size['seconds']:.0f} s"
    lines = [f"  {size['size']} ({size['model']}, {_gb(size['bytes'])}): {size['fit']}{took}"]
    lines += [
        f"    {_STATES[file['state']]:<8}{file['folder']}/{file['file']}  {_gb(file['bytes'])}"
        + ("" if file["state"] == "here" else f"  from {file['page']}")
        for file in size["files"]
    ]
    return "\n".join(lines)


def _file_text(item: Found) -> str:
    have = f"{_gb(item.have_bytes)} of " if item.state == "partly" else ""
    return f"  {_STATES[item.state]:<8}{item.place}  {have}{_gb(item.file.size_bytes)}"


def _hosts(found: Iterable[Found]) -> str:
    return ", ".join(dict.fromkeys(item.file.page for item in found))


def _place(found: Sequence[Found], name: str) -> Path:
    return next(item.place for item in found if item.file.name == name)


def _gb(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.2f} GB" if size_bytes >= 10**7 else f"{size_bytes / 1e6:.2f} MB"
