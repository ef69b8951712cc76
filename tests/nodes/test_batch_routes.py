"""The jobs panel lists, cancels and retries batches, and a page of another site learns and does nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from fleet.batches import paint, write_rows

from wan_duet.nodes.batch_routes import add_batch_routes
from wan_duet.pipelines.service.fleet_address import keep_address


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """An output folder with a batch of three rows, of which one failed."""
    rows = write_rows(tmp_path / "rows.jsonl", *({"prompt": text, "seed": 1} for text in ("a", "fails", "c")))
    paint(rows, tmp_path / "output" / "night", keep_going=True)
    paint(rows, tmp_path / "elsewhere", keep_going=True)
    return tmp_path / "output"


def ask(
    output: Path, path: str = "", body: object = None, headers: Mapping[str, str] | None = None
) -> tuple[int, Any]:
    """GET, or POST when there is a body; the status and the answer."""

    async def talk() -> tuple[int, Any]:
        routes, app = web.RouteTableDef(), web.Application()
        add_batch_routes(routes, lambda: output, lambda: output.parent / "settings")
        app.add_routes(routes)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/wan_duet/batches{path}"
        method, sent = ("GET", {}) if body is None else ("POST", {"json": body})
        try:
            async with (
                ClientSession(headers=dict(headers or {})) as session,
                session.request(method, url, **sent) as got,
            ):
                return got.status, json.loads(await got.text())
        finally:
            await runner.cleanup()

    return asyncio.run(talk())


def counts(output: Path) -> dict[str, int]:
    (told,) = ask(output)[1]["batches"]
    return {state: told[state] for state in ("done", "failed", "waiting", "cancelled") if told[state]}


def test_the_batches_of_the_output_folder_are_listed_without_its_path(output: Path) -> None:
    status, told = ask(output)
    assert (status, told["older"]) == (200, 0)
    (batch,) = told["batches"]
    assert (batch["batch"], batch["rows"], batch["done"], batch["failed"]) == ("night", 3, 2, 1)
    assert batch["errors"][0]["error"] == "fails: no such model"
    assert str(output.parent) not in json.dumps(told)


def test_the_fleet_is_told_once_it_has_an_address(output: Path) -> None:
    assert ask(output, "/fleet") == (200, None)
    keep_address(output.parent / "settings", "http://127.0.0.1:9", "wd-hidden")
    status, told = ask(output, "/fleet")
    assert (status, told["batch"]) == (200, "Run Fleet at 127.0.0.1:9 (newest 100 jobs)")
    assert told["problem"].startswith("no answer from http://127.0.0.1:9")
    assert "wd-hidden" not in json.dumps(told)


def test_failed_rows_are_retried_and_open_ones_cancelled(output: Path) -> None:
    assert ask(output, "/retry", {"batch": "night"}) == (200, {"rows": 1})
    assert counts(output) == {"done": 2, "waiting": 1}
    assert ask(output, "/cancel", {"batch": "night"}) == (200, {"rows": 1})
    assert counts(output) == {"done": 2, "cancelled": 1}


@pytest.mark.parametrize(
    "body",
    [{}, {"batch": ""}, {"batch": 7}, {"batch": "night", "more": ""}, {"batch": "../elsewhere"}, ["x"]],
)
@pytest.mark.parametrize("action", ["/cancel", "/retry"])
def test_a_wrong_body_and_a_folder_elsewhere_are_refused(output: Path, action: str, body: object) -> None:
    status, told = ask(output, action, body)
    assert (status, list(told)) == (400, ["error"])
    assert counts(output) == counts(output.parent / "elsewhere") == {"done": 2, "failed": 1}


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Host": "evil.example"}],
)
@pytest.mark.parametrize("path", ["", "/fleet", "/cancel", "/retry"])
def test_a_page_of_another_site_sees_and_does_nothing(
    output: Path, path: str, headers: Mapping[str, str]
) -> None:
    status, told = ask(output, path, {"batch": "night"} if path in ("/cancel", "/retry") else None, headers)
    assert (status, list(told)) == (403, ["error"])
    assert counts(output) == {"done": 2, "failed": 1}
