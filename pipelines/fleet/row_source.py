"""Finds what is written for each row of a batch: in a file of requests or prompts, or in a folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import RequestError
from ..request.many_prompts import numbered_prompts
from ..request.parse import read_json

__all__ = ["WrittenRow", "holds_prompts", "written_rows"]

_ARGUMENT = "REQUESTS"
_NO_NAME = re.compile(r"[^A-Za-z0-9_.-]+|^[.-]+")  # what the name of a result cannot have
_LONGEST = 80


@dataclass(frozen=True)
class WrittenRow:
    """One row as it is written.

    line: of the file, from 1; in a folder the place of the file among its files.
    read: returns the fields. Raises RequestError.
    name: of its result's files, if it does not say one itself.
    file: the name of its own file, in a folder.
    """

    line: int
    read: Callable[[], Mapping[str, Any]] = field(repr=False)
    name: str | None = None
    file: str = ""

    @property
    def where(self) -> str:
        """Names the row in messages."""
        return self.file or f"line {self.line}"


def written_rows(source: Path) -> list[WrittenRow]:
    """Return the rows of `source`, which are not parsed yet.

    A folder has one request in each of its `.json` files, in the order of their names. A `.txt` file has one
    prompt a line, any other file one request a line, as JSON; empty lines are left out.

    Raises RequestError if it cannot be read, or has no row.
    """
    try:
        rows = list(_rows(source))
    except OSError as error:
        found = f"{source}: {error.strerror}"
        raise RequestError.of(_ARGUMENT, found, "give a readable file or folder") from None
    if not rows:
        fix = "write one JSON object a line, one prompt a line in a .txt file, or .json files in a folder"
        raise RequestError.of(_ARGUMENT, f"{source} has no rows", fix)
    return rows


def holds_prompts(source: Path) -> bool:
    """Return whether each line of `source` is a prompt."""
    return source.suffix.lower() == ".txt" and not source.is_dir()


def _rows(source: Path) -> Iterator[WrittenRow]:
    if source.is_dir():
        files = sorted(file for file in source.iterdir() if file.suffix.lower() == ".json")
        yield from (_of_file(number, file, file.read_bytes()) for number, file in enumerate(files, 1))
    elif holds_prompts(source):
        yield from _prompts(source)
    else:
        for number, line in enumerate(source.read_bytes().split(b"\n"), 1):
            if line.strip():
                yield WrittenRow(number, _json(line))


def _of_file(number: int, file: Path, content: bytes) -> WrittenRow:
    """Return the row of a file. Its name is that of the file; a bare number gets a word before it."""
    name = _NO_NAME.sub("-", file.stem).lstrip("-.")
    if not name or name.isdecimal():
        name = f"request-{name}".rstrip("-")  # numbers are the names of rows without one
    return WrittenRow(number, _json(content), name[:_LONGEST], file.name)


def _prompts(file: Path) -> Iterator[WrittenRow]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError.of(_ARGUMENT, f"{file}: {error}", "save it as UTF-8") from None
    for number, prompt in numbered_prompts(text):
        yield WrittenRow(number, partial(dict, prompt=prompt))


def _json(content: bytes) -> Callable[[], Mapping[str, Any]]:
    return partial(read_json, content)
