"""docs/requests.md, written from the contracts.

python -m wan_duet.pipelines.plan.docs
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..request import KINDS, FieldRow, WanRequest, field_table
from ..request.contracts import ALIASES
from ..request.local_rules import LOCAL_RULES
from ..request.prices import PRICES
from .families import FAMILIES, Family

__all__ = [
    "PAGE",
    "WRITE",
    "field_markdown",
    "local_markdown",
    "price_markdown",
    "requests_page",
    "sizes_markdown",
]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "requests.md"
WRITE = "python -m wan_duet.pipelines.plan.docs"


def _aliases() -> str:
    """The names that kinds had."""
    return " ".join(
        f"`{name}` is another name of `{alias['kind']}`: a page of the same endpoint, which states "
        f"{_stated(alias['defaults'])}; what is left out under that name is sent as that page states it."
        for name, alias in ALIASES.items()
    )


def _stated(defaults: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}: {json.dumps(value)}`" for name, value in defaults.items())


_INTRODUCTION = f"""# Requests

This page is written from the contracts in `pipelines/request/contracts.json`; `{WRITE}` writes it again.

A request is a JSON object. Its kind says which fields it has; each kind mirrors one published contract of a
provider. A value equal to the default is a preference: a runner may adjust it and says so. Any other value is
a demand: it is honoured or refused. A field without a default is left out of what is sent until you set it.

Where sources disagree about a range, the newest validates, and a value that only an older one refuses gets a
warning.

{_aliases()}

"""
_SIZES = """Width x height in pixels. `auto` keeps the shape of the input at the area of the tier's 16:9, each
side to the nearest multiple (16; 5B: 32); an input in one of the three shapes gets the size of the table.

"""
_LOCAL = """Every kind runs on this machine. Where something of a field is impossible, the line says what, and
what to do about it.

"""


def requests_page() -> str:
    """The whole page."""
    parts = [_INTRODUCTION, "## Kinds\n\n", _kinds_table(), "\n"]
    for kind in KINDS:
        parts += [f"## {kind}\n\n", _heading(KINDS[kind]), field_markdown(kind), "\n"]
    parts += ["## Sizes\n\n", _SIZES, sizes_markdown(), "\n"]
    parts += ["## What a field means on this machine\n\n", _LOCAL, local_markdown(), "\n"]
    parts += ["## Prices\n\n", price_markdown()]
    return "".join(parts)


def field_markdown(kind: str) -> str:
    """The fields of a kind as a Markdown table, and below it those of the objects in them."""
    return _fields(field_table(kind))


def sizes_markdown() -> str:
    """Tier and shape -> size, for each family that has its own."""
    groups: dict[str, tuple[Family, list[str]]] = {}
    for family in FAMILIES.values():
        groups.setdefault(repr(family.sizes), (family, []))[1].append(family.name)
    parts = []
    for family, names in groups.values():
        shapes = tuple(next(iter(family.sizes.values())))
        lines = (
            (tier, *("{}x{}".format(*row[shape]) for shape in shapes)) for tier, row in family.sizes.items()
        )
        parts.append(f"{', '.join(names)}:\n\n{_table(('tier', *shapes), lines)}")
    return "\n".join(parts)


def local_markdown() -> str:
    """What each field means locally, in a Markdown table."""
    return _table(
        ("field", "on this machine"), ((f"`{name}`", rule.meaning) for name, rule in LOCAL_RULES.items())
    )


def price_markdown() -> str:
    """What providers ask, in a Markdown table."""
    lines = []
    for endpoint, entry in PRICES.items():
        usd = entry["usd"]
        amount = ", ".join(f"{k}: ${v}" for k, v in usd.items()) if isinstance(usd, dict) else f"${usd}"
        unit = entry["unit"].replace("_", " ")
        lines.append((f"`{endpoint}`", amount, f"per {unit}", entry["source"], entry["as_of"]))
    return _table(("endpoint", "price", "unit", "source", "as of"), lines)


def _kinds_table() -> str:
    return _table(
        ("kind", "what", "provider"),
        ((f"[`{kind}`](#{kind})", cls.title, cls.provider) for kind, cls in KINDS.items()),
    )


def _heading(cls: type[WanRequest]) -> str:
    return f"{cls.__doc__}\n\nContract `{cls.contract}` of {cls.provider}, `{cls.endpoint}`.\n\n"


def _fields(table: Sequence[FieldRow]) -> str:
    text = _table(
        ("field", "type", "default", "allowed", "what it is"),
        ((f"`{row.name}`", row.type, _default(row), _allowed(row), row.description) for row in table),
    )
    for row in table:
        if row.fields:
            of = "each of" if row.type.startswith("array") else "the object in"
            text += f"\nIn {of} `{row.name}`:\n\n{_fields(row.fields)}"
    return text


def _default(row: FieldRow) -> str:
    if row.required:
        return "required"
    return "unset" if row.default is None else f"`{json.dumps(row.default, ensure_ascii=False)}`"


def _allowed(row: FieldRow) -> str:
    choices = "" if row.enum is None else ", ".join(map(str, row.enum))
    ranges = "; ".join(f"{row.range_text(limit)} ({limit.as_of})" for limit in reversed(row.limits))
    return "; ".join(part for part in (choices, ranges) if part)


def _table(head: Iterable[str], lines: Iterable[Iterable[Any]]) -> str:
    head = tuple(head)
    rules = ("---" for _ in head)
    cells = (tuple(str(cell).replace("|", "\\|") for cell in line) for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, rules, *cells))


if __name__ == "__main__":
    PAGE.write_text(requests_page(), encoding="utf-8")
