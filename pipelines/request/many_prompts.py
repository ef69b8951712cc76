"""Reads several prompts, one a line."""

from __future__ import annotations

from pathlib import Path

from ..errors import RequestError

__all__ = ["numbered_prompts", "prompts_of"]


def numbered_prompts(text: str) -> list[tuple[int, str]]:
    """Return (line from 1, prompt) of each line of `text` that is not empty, without spaces around it."""
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
    return [(number, line) for number, line in lines if line]


def prompts_of(text: str, file: Path | None = None) -> list[str]:
    """Return the lines of `text`, then those of `file`, without empty ones and without spaces around them.

    Raises RequestError if the file cannot be read as UTF-8, or if there is no prompt.
    """
    texts = [text, *([] if file is None else [_read(file)])]
    prompts = [prompt for one in texts for _, prompt in numbered_prompts(one)]
    if not prompts:
        raise RequestError.of("prompts", "there are none", "write one a line, or name a file")
    return prompts


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        found = f"{file.name} cannot be read: {error}"
        raise RequestError.of("file", found, "give a text file in UTF-8") from error
