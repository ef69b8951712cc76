"""Lists the models in ComfyUI's model folders.

ComfyUI lists neither folders in diffusers layout nor GGUF files, and other packs use its lists, so this pack
has its own. A name is the path below the model folder, with / on every system.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from ..pipelines.files.moved_file import moved_to

__all__ = ["FileChoices", "find_companions", "find_models", "pick", "stamp"]

_Value = TypeVar("_Value")

_SUFFIXES = (".safetensors", ".sft", ".gguf")
_MOST_WRITTEN = 20  # choices, in ComfyUI's execution.py


class FileChoices(list[str]):
    """The choices of a file widget. ComfyUI checks a value against them and reports an error once.

    It would repeat an error of `validate_inputs` for every input of that function.
    """

    def __init__(self, names: Iterable[str] = (), advice: str = "") -> None:
        super().__init__(names)  # alone in the copy that `dataclasses.asdict` makes for the browser
        self._advice = advice
        self._missed = ""  # ComfyUI first asks whether a name is here, then for the text

    def __contains__(self, name: object) -> bool:
        """Accept / and \\ in a name, because a workflow may come from another system."""
        found = isinstance(name, str) and pick(name, dict.fromkeys(self, True)) is not None
        self._missed = "" if found else str(name)
        return found

    def __len__(self) -> int:
        """Return at most 20: of more choices ComfyUI writes their number after "not in", and no advice."""
        return min(super().__len__(), _MOST_WRITTEN) if self._advice else super().__len__()

    def __str__(self) -> str:
        """Return the text that ComfyUI writes after "not in": where the file is now, and what would work."""
        if not self._advice:
            return super().__str__()
        return f"{self._advice}{moved_to(self._missed, self)}"


def find_models(roots: Iterable[str], *, pickles: bool = False) -> dict[str, Path]:
    """Find every folder with a model_index.json, and every .safetensors, .sft or .gguf file outside of such
    folders.

    If a name occurs twice, the first root is used. pickles: list .pth files too.
    """
    suffixes = (*_SUFFIXES, ".pth") if pickles else _SUFFIXES
    found: dict[str, Path] = {}
    for root in map(Path, roots):
        for folder, subfolders, files in os.walk(root, followlinks=True):
            here = Path(folder)
            if "model_index.json" in files and here != root:
                found.setdefault(here.relative_to(root).as_posix(), here)
                subfolders.clear()
                continue
            subfolders.sort()
            for file in sorted(files):
                if file.lower().endswith(suffixes):
                    found.setdefault((here / file).relative_to(root).as_posix(), here / file)
    return found


def find_companions(roots: Iterable[str]) -> dict[str, Path]:
    """Find every transformers folder with safetensors weights, and every folder with such a subfolder `text`
    or `image`.

    If a name occurs twice, the first root is used.
    """
    found: dict[str, Path] = {}
    for root in map(Path, roots):
        for config in sorted(root.rglob("config.json")):
            folder = config.parent
            if not any(folder.glob("*.safetensors")):
                continue
            places = [folder, folder.parent] if folder.name in ("text", "image") else [folder]
            for place in places:
                if place != root:
                    found.setdefault(place.relative_to(root).as_posix(), place)
    return found


def pick(name: str, listed: Mapping[str, _Value]) -> _Value | None:
    """Return the entry called `name`, with / or \\ as separator. None if there is none."""
    wanted = name.replace("\\", "/")
    return next((value for key, value in listed.items() if key.replace("\\", "/") == wanted), None)


def stamp(path: Path) -> list[tuple[str, int, int]]:
    """Return (name, bytes, modification time) of each file of the model at `path`."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    facts = [(file, file.stat()) for file in files if file.is_file()]
    return [(file.name, status.st_size, status.st_mtime_ns) for file, status in facts]
