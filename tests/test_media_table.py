"""The tables of docs/media.md name tests that are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.media_table import media_cases

VIDEO = Path(__file__).parent / "video"


@pytest.mark.parametrize("table", sorted(media_cases()))
def test_every_case_has_its_test(table: str) -> None:
    for case in media_cases()[table]:
        file, _, function = case["test"].partition("::")
        assert f"\ndef {function}(" in (VIDEO / file).read_text(encoding="utf-8"), case["input"]
