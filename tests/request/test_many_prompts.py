"""Prompts come one a line, from a text and from a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.request.many_prompts import prompts_of


def test_each_line_is_a_prompt_and_the_file_follows_the_text(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes("\ufeffc: größer\r\n\r\n # d\n".encode())
    assert prompts_of("a\n\n  b  \n", file) == ["a", "b", "c: größer", "# d"]


@pytest.mark.parametrize("text", ["", " \n\n"])
def test_no_prompt_is_an_error(text: str) -> None:
    with pytest.raises(RequestError, match="prompts: there are none"):
        prompts_of(text)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\xff")
    with pytest.raises(RequestError, match=r"file: a\.png cannot be read"):
        prompts_of("a", tmp_path / "a.png")
    with pytest.raises(RequestError, match=r"file: b\.txt cannot be read"):
        prompts_of("a", tmp_path / "b.txt")
