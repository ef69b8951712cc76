"""Lines of a table of goals, and how they stand in a page of the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pairs import Ratio

__all__ = ["Row", "at_most", "mark", "of_ratio", "table", "write_between"]


@dataclass(frozen=True)
class Row:
    """One line of the table. passed: None where there is nothing to compare with."""

    gate: str
    what: str
    found: str
    goal: str
    stock: str
    passed: bool | None


def at_most(gate: str, what: str, value: float, goal: float, stock: str = "", text: str | None = None) -> Row:
    return Row(gate, what, text or f"{value:.3g}", f"at most {goal:g}", stock, value <= goal)


def of_ratio(gate: str, what: str, ratio: Ratio, goal: float, stock: str = "") -> Row:
    """Missed only when all of the middle half lies on the wrong side."""
    passed = ratio.median <= goal or ratio.low <= goal
    return Row(gate, what, ratio.text(), f"at most {goal:g}", stock, passed)


def mark(row: Row) -> str:
    return "-" if row.passed is None else "ok" if row.passed else "MISSED"


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    """In Markdown."""
    return [_line(head), _line(["---"] * len(head)), *(_line(line) for line in lines)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def write_between(page: Path, name: str, lines: Iterable[str]) -> None:
    """Replace what stands between the two markers of that name."""
    first, last = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = page.read_text(encoding="utf-8").partition(first)
    if last not in rest:
        raise SystemExit(f"{page}: has no {first} with {last} behind it")
    after = rest.partition(last)[2]
    page.write_text(before + "\n".join((first, *lines, last)) + after, encoding="utf-8")
