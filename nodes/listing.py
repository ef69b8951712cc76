"""Which models lie in ComfyUI's model folders.

ComfyUI lists neither folders in diffusers layout nor GGUF files, and its lists belong to everybody: so we
look for ourselves and change nothing there. A name is the path below the model folder, with / on every
system.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

__all__ = ["FileChoices", "find_companions", "find_models", "pick", "stamp"]

_Value = TypeVar("_Value")

_SUFFIXES = (".safetensors", ".gguf")


class FileChoices(list[str]):
    """The choices of a file widget. ComfyUI itself checks a value against them, and says once what is wrong:
    what `validate_inputs` returns it repeats under every input that the function takes.
    """

    def __init__(self, names: Iterable[str] = (), advice: str = "") -> None:
        super().__init__(names)  # alone in the copy that `dataclasses.asdict` makes for the browser
        self._advice = advice

    def __contains__(self, name: object) -> bool:
        """Whichever separator the workflow's author had."""
        return isinstance(name, str) and pick(name, dict.fromkeys(self, True)) is not None

    def __str__(self) -> str:
        """What ComfyUI writes after "not in"."""
        return self._advice or super().__str__()


def find_models(roots: Iterable[str]) -> dict[str, Path]:
    """Every folder with a model_index.json, and every .safetensors or .gguf file that lies in no such folder.

    The first root wins a name.
    """
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
                if file.lower().endswith(_SUFFIXES):
                    found.setdefault((here / file).relative_to(root).as_posix(), here / file)
    return found


def find_companions(roots: Iterable[str]) -> dict[str, Path]:
    """Every folder of transformers with weights in safetensors, and every folder that holds such in `text` or
    `image`. The first root wins a name.
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
    """The entry called `name`, whichever separator the workflow's author had; None when there is none."""
    wanted = name.replace("\\", "/")
    return next((value for key, value in listed.items() if key.replace("\\", "/") == wanted), None)


def stamp(path: Path) -> list[tuple[str, int, int]]:
    """Changes whenever a file of the model at `path` does: (name, bytes, modification time) of each."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    facts = [(file, file.stat()) for file in files if file.is_file()]
    return [(file.name, status.st_size, status.st_mtime_ns) for file, status in facts]
