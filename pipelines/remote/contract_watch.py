"""Compares our tables of the providers' endpoints with what the providers publish today."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from ..download.web import Web
from ..errors import DownloadError
from ..request.contracts import KIND_ENTRIES, SENT_ENTRIES, TRAINING_ENTRIES
from .published_page import PageError, PublishedField, page_address, read_page

__all__ = ["ContractNews", "contract_news", "known_contracts"]

Comparison = Literal["equal", "differs", "unknown"]
_LARGEST = 2**20  # bytes of a page; they have some 20 KiB


@dataclass(frozen=True)
class ContractNews:
    """What the page of one endpoint says of our table.

    lines: each difference, or why nothing is known.
    """

    kind: str
    endpoint: str
    page: str
    answer: Comparison
    lines: tuple[str, ...] = ()


def known_contracts() -> tuple[Mapping[str, Any], ...]:
    """Return our tables: one entry for each endpoint of a provider."""
    return (*KIND_ENTRIES, *SENT_ENTRIES, *TRAINING_ENTRIES)


def contract_news(web: Web, entries: Iterable[Mapping[str, Any]]) -> Iterator[ContractNews]:
    """Yield the news of each endpoint: one GET each, without a key."""
    for entry in entries:
        page = page_address(entry["endpoint"])
        answer, lines = _compare(entry, web, page)
        yield ContractNews(entry["kind"], entry["endpoint"], page, answer, lines)


def _compare(entry: Mapping[str, Any], web: Web, page: str) -> tuple[Comparison, tuple[str, ...]]:
    try:
        status, text = _get(web, page)
        if status in (404, 410):
            return "differs", (f"the provider answers {status}: this endpoint is probably no longer offered",)
        if status != 200:
            return "unknown", (f"the provider answers {status}",)
        published = read_page(text)
    except (DownloadError, PageError, httpx.HTTPError, UnicodeDecodeError) as error:
        return "unknown", (str(error) or type(error).__name__,)
    if published.endpoint.lower() != entry["endpoint"].lower():
        return "differs", (f"the page is about {published.endpoint}: the endpoint has moved",)
    left_out = entry.get("left_out", {})  # known, and not offered for a reason that stands there
    theirs = {name: field for name, field in published.fields.items() if name not in left_out}
    lines = tuple(_differences(entry["fields"], theirs))
    return ("differs" if lines else "equal"), lines


def _get(web: Web, page: str) -> tuple[int, str]:
    with web.get(page) as response:
        content = bytearray()
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > _LARGEST:
                raise PageError(f"the page has more than {_LARGEST} bytes")
        return response.status_code, content.decode()


def _differences(
    ours: Mapping[str, Mapping[str, Any]], theirs: Mapping[str, PublishedField]
) -> Iterator[str]:
    for name in theirs.keys() - ours.keys():
        field = theirs[name]
        what = [field.type, "required" if field.required else None, _stated(field.default, "default")]
        details = ", ".join(filter(None, what))
        yield f"{name}: new field ({details})" if details else f"{name}: new field"
    for name in ours.keys() - theirs.keys():
        yield f"{name}: no longer published"
    for name in ours.keys() & theirs.keys():
        for change in _changes(ours[name], theirs[name]):
            yield f"{name}: {change}"


def _changes(ours: Mapping[str, Any], theirs: PublishedField) -> Iterator[str]:
    """What a field says in other words. What either side leaves unsaid is no difference: it is not sent."""
    if ours.get("required", False) != theirs.required:
        yield "now required" if theirs.required else "no longer required"
    kind = ours["type"].partition("<")[0]
    if theirs.type is not None and kind != theirs.type and {kind, theirs.type} != {"enum", "string"}:
        yield f"type {theirs.type}, was {kind}"
    if None not in (ours.get("default"), theirs.default) and ours["default"] != theirs.default:
        yield f"default {theirs.default!r}, was {ours['default']!r}"
    choices = frozenset(map(str, ours["enum"])) if "enum" in ours else None
    if None not in (choices, theirs.options) and choices != theirs.options:
        yield f"choices {', '.join(sorted(theirs.options or ()))}; were {', '.join(sorted(choices or ()))}"
    limit = ours["limits"][-1] if "limits" in ours else {}
    if theirs.range is not None and (limit.get("min"), limit.get("max")) != theirs.range:
        low, high = theirs.range
        yield f"range {low:g} to {high:g}, was {limit.get('min')} to {limit.get('max')}"


def _stated(value: Any, word: str) -> str | None:
    return None if value is None else f"{word} {value!r}"
