"""Writes the tables of docs/media.md: what became of an input before, in ComfyUI's core, and now.

python -m tools.media_table
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypedDict

__all__ = ["PAGE", "Case", "media_cases", "media_page"]

PAGE = Path(__file__).resolve().parents[1] / "docs" / "media.md"
_DATA = Path(__file__).with_name("media_cases.json")
_HEAD = "| input | before | core | now | test |\n|---|---|---|---|---|\n"


class Case(TypedDict):
    """An input. before, core, now: what comes out. test: file of tests/video::function."""

    input: str
    before: str
    core: str
    now: str
    test: str


def media_cases() -> dict[str, list[Case]]:
    """Return the cases of each table, by the name in its markers."""
    cases: dict[str, list[Case]] = json.loads(_DATA.read_text(encoding="utf-8"))
    return cases


def media_page() -> str:
    """Return the page with its tables written anew."""
    page = PAGE.read_text(encoding="utf-8")
    for name, cases in media_cases().items():
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        page = "".join((before, begin, _HEAD, *map(_row, cases), end, after))
    return page


def _row(case: Case) -> str:
    file, _, _ = case["test"].partition("::")
    cells = (case["input"], case["before"], case["core"], case["now"], f"`{file}`")
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    PAGE.write_text(media_page(), encoding="utf-8", newline="\n")
