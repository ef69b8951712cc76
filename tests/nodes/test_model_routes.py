"""*Get files* fetches what is listed, into the right folders, for ComfyUI's own page and for no other."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from aiohttp import ClientSession, web
from safetensors.torch import save

from wan_duet.nodes.model_routes import add_model_routes
from wan_duet.pipelines.model_files.catalogue import OWN_LIST
from wan_duet.pipelines.model_files.inventory import comfyui_folders

from ..download.small_web import Reply, Site, ranged, served

NAME = "wan_2.1_vae.safetensors"
WEIGHTS = save({"conv.weight": torch.zeros(12_000, 64)})
TAG = {"ETag": '"one"'}
WAITS: dict[str, Callable[[Any], bool]] = {
    "wait": lambda state: not state["running"],
    "begun": lambda state: state["done"] >= 1,
}


@pytest.fixture
def site() -> Iterator[Site]:
    with served() as made:
        yield made


@pytest.fixture(autouse=True)
def own_list(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The published VAE is a small file on this machine here."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    host = f"127.0.0.1:{site.port}"
    site.file(host, "/vae", WEIGHTS, **TAG)
    entry = {"folder": "vae", "url": f"http://{host}/vae", "size_bytes": len(WEIGHTS)}
    files = {NAME: {**entry, "sha256": hashlib.sha256(WEIGHTS).hexdigest()}}
    (tmp_path / OWN_LIST).write_text(json.dumps({"files": files, "allow_loopback": True}))


def ask(
    tmp_path: Path, *questions: tuple[str, object], headers: Mapping[str, str] | None = None
) -> list[Any]:
    """(status, answer) of each question to one server: (path, body), a GET without body. "wait" waits until
    no download runs, "begun" until a MiB has arrived. An event instead of a body is set, and asks nothing.
    """

    async def talk() -> list[Any]:
        routes, app, answers = web.RouteTableDef(), web.Application(), []
        add_model_routes(routes, lambda: tmp_path, lambda: comfyui_folders(tmp_path / "models"))
        app.add_routes(routes)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        sent = {name: text.replace("HOST", url) for name, text in (headers or {}).items()}

        async def one(session: ClientSession, path: str, body: object) -> tuple[int, Any]:
            data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            kind = {} if data is None else {"Content-Type": "application/json"}
            method = "GET" if data is None else "POST"
            address = f"{url}/wan_duet/models/{path}"
            async with session.request(method, address, data=data, headers={**kind, **sent}) as answer:
                return answer.status, await answer.json()

        try:
            async with ClientSession() as session:
                for path, body in questions:
                    if isinstance(body, threading.Event):
                        body.set()
                        continue
                    while path in WAITS and not WAITS[path]((await one(session, "progress", None))[1]):
                        await asyncio.sleep(0.02)
                    answers.append(await one(session, "progress" if path in WAITS else path, body))
        finally:
            await runner.cleanup()
        return answers

    return asyncio.run(talk())


def test_the_files_of_a_workflow_are_looked_up_and_fetched(tmp_path: Path) -> None:
    names = {"files": [f"sub/{NAME}", "toy", "https://evil.example/x.safetensors"]}
    seen = ask(tmp_path, ("look", names), ("get", names), ("wait", None), ("look", names))
    (status, before), (started, _), (_, done), (_, after) = seen
    assert (status, started) == (200, 200)
    (file,) = before["files"]
    assert (file["name"], file["folder"], file["state"]) == (NAME, "vae", "missing")
    assert (file["bytes"], file["left_bytes"], before["problem"]) == (len(WEIGHTS), len(WEIGHTS), None)
    assert (done["error"], done["stage"]) == (None, "done")
    assert after["files"][0]["state"] == "here"
    assert (tmp_path / "models" / "vae" / NAME).read_bytes() == WEIGHTS


def test_a_download_is_stopped_and_continued_and_another_waits(tmp_path: Path, site: Site) -> None:
    host, ends = f"127.0.0.1:{site.port}", threading.Event()
    half = len(WEIGHTS) // 2
    first = [Reply(WEIGHTS, 200, TAG, breaks_after=half, pause=ends)]
    site.pages[host, "/vae"] = lambda asked: first.pop() if first else ranged(WEIGHTS, asked, TAG)
    names = {"files": [NAME]}
    seen = ask(
        tmp_path,
        ("get", names),
        ("begun", None),
        ("get", names),
        ("stop", {}),
        ("the server sends nothing more, and now ends the connection", ends),
        ("wait", None),
        ("look", names),
    )
    assert (seen[2][0], "another download is running" in seen[2][1]["error"]) == (400, True)
    assert "stopped; what has arrived is kept" in seen[4][1]["error"]
    assert seen[5][1]["files"][0]["state"] == "partly"
    assert ask(tmp_path, ("get", names), ("wait", None))[1][1]["error"] is None
    assert site.asked[-1].headers["Range"] == f"bytes={half}-"


def test_what_goes_wrong_is_told(tmp_path: Path, site: Site) -> None:
    site.reply(f"127.0.0.1:{site.port}", "/vae", Reply(b"", 403))
    _, (_, done) = ask(tmp_path, ("get", {"files": [NAME]}), ("wait", None))
    assert "the server refused access (403)" in done["error"]
    place = tmp_path / "models" / "vae" / NAME
    place.write_bytes(b"mine")
    (_, seen), (status, told) = ask(tmp_path, ("look", {"files": [NAME]}), ("get", {"files": [NAME]}))
    assert "rename or remove yours" in seen["problem"]
    assert (status, told["error"]) == (400, seen["problem"])
    assert place.read_bytes() == b"mine"


def test_every_kind_is_offered_with_its_sizes(tmp_path: Path) -> None:
    ((_, kinds),) = ask(tmp_path, ("kinds", None))
    assert {"kind": "text-to-video", "size": "gguf"}.items() <= kinds[1].items()
    assert NAME in kinds[0]["files"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "HOST", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
    ],
)
@pytest.mark.parametrize("path", ["look", "get", "stop"])
def test_a_page_of_another_site_starts_and_stops_nothing(
    tmp_path: Path, site: Site, path: str, headers: Mapping[str, str], status: int
) -> None:
    body = {} if path == "stop" else {"files": [NAME]}
    if status == 200 and path == "get":
        assert [found for found, _ in ask(tmp_path, (path, body), ("wait", None), headers=headers)] == [
            200,
            200,
        ]
        return
    assert ask(tmp_path, (path, body), headers=headers)[0][0] == status
    assert site.asked == []


@pytest.mark.parametrize(
    "body", [b"", b"{", [NAME], {}, {"files": NAME}, {"files": [7]}, {"files": [], "url": "x"}]
)
def test_a_wrong_body_is_refused(tmp_path: Path, body: object) -> None:
    assert ask(tmp_path, ("get", body))[0][0] == 400
    assert ask(tmp_path, ("get", {"files": ["x" * 70_000]}))[0][0] == 400
