"""`wan-duet contracts`: which endpoints are known, their sources, and what has changed at the providers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..errors import RequestError
from ..request.contracts import NOT_OFFERED
from .subcommands import add_command

__all__ = ["UNKNOWN", "add_contracts_command"]

UNKNOWN = 3
"""Exit code: a page could not be read, so nothing is known of its endpoint."""


def add_contracts_command(commands: Any) -> None:
    """Add `contracts` to the commands of an argument parser (what `add_subparsers` returned)."""
    text = "list the endpoints that are known, and with --live what the providers publish otherwise today"
    parser = add_command(commands, "contracts", _contracts, text)
    parser.add_argument(
        "--live",
        action="store_true",
        help="read the provider's page of each endpoint, without a key; exit code 1 for a difference, "
        f"{UNKNOWN} where a page cannot be read",
    )
    parser.add_argument("--kind", action="append", default=[], help="only this kind; may be repeated")


def _contracts(options: argparse.Namespace) -> int:
    from ..remote.contract_watch import known_contracts

    entries = [entry for entry in known_contracts() if not options.kind or entry["kind"] in options.kind]
    if unknown := set(options.kind) - {entry["kind"] for entry in entries}:
        raise RequestError.of(
            "--kind", f"{', '.join(sorted(unknown))}: no such kind", "see wan-duet contracts"
        )
    if options.live:
        return _live(entries, options.json)
    return _list(entries, options.json, [] if options.kind else list(NOT_OFFERED.values()))


def _list(entries: list[Mapping[str, Any]], as_json: bool, not_offered: list[Mapping[str, Any]]) -> int:
    rows = [
        {
            "kind": entry["kind"],
            "endpoint": entry["endpoint"],
            "fields": len(entry["fields"]),
            **_sources(entry),
        }
        for entry in entries
    ]
    if as_json:
        print(json.dumps({"offered": rows, "not_offered": not_offered}, indent=2, ensure_ascii=False))
        return 0
    for row in rows:
        print(f"{row['kind']}: {row['endpoint']}, {row['fields']} fields, sources {row['sources']}")
    for known in not_offered:
        why = f"{known['missing']} ({known['source']}, {known['as_of']})"
        print(f"{known['kind']}: {known['endpoint']}, known but not offered: {why}")
    return 0


def _sources(entry: Mapping[str, Any]) -> dict[str, str]:
    stated = [limit for field in entry["fields"].values() for limit in field.get("limits", ())]
    stated += [entry] if "source" in entry else []
    sources = sorted({f"{one['source']} ({one['as_of']})" for one in stated})
    return {"sources": "; ".join(sources) or "none dated"}


def _live(entries: list[Mapping[str, Any]], as_json: bool) -> int:
    from ..download.web import Web
    from ..remote.contract_watch import contract_news

    all_news = []
    for news in contract_news(Web(), entries):
        all_news.append(news)
        if not as_json:
            print(f"{news.kind}: {news.answer} ({news.page})", *news.lines, sep="\n  ", flush=True)
    if as_json:
        print(json.dumps([asdict(news) for news in all_news], indent=2, ensure_ascii=False))
    answers = {news.answer for news in all_news}
    return 1 if "differs" in answers else UNKNOWN if "unknown" in answers else 0
