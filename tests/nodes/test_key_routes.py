"""Keys go in through the settings and never come out, and no page of another site gets that far."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web

from wan_duet.nodes.key_routes import add_key_routes
from wan_duet.pipelines.errors import UnreachableError
from wan_duet.pipelines.remote.keys import PROVIDERS, find_key, keep_key

KEY = "5f0c1d2e-aaaa-4bbb-8ccc-123456789abc:c0ffee00112233445566778899aabbcc"
KEEP = {"provider": "fal", "key": KEY}


@pytest.fixture(autouse=True)
def _no_keys_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROVIDERS.values(), "FAL_KEY_ID", "FAL_KEY_SECRET"):
        monkeypatch.delenv(name, raising=False)


def takes(provider: str) -> bool:
    """A provider that takes the key of fal and cannot be reached at Novita."""
    if provider == "novita":
        raise UnreachableError("trying the key: no answer", provider=provider, money="none spent")
    return True


def ask(
    folder: Path, path: str = "", body: object = None, headers: Mapping[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    """GET, or POST when there is a body; the status and the answer, in which no key is."""

    async def talk() -> tuple[int, str]:
        routes, app = web.RouteTableDef(), web.Application()
        add_key_routes(routes, lambda: folder, takes)
        app.add_routes(routes)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        sent = {name: text.replace("HOST", url) for name, text in (headers or {}).items()}
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        json_type = {} if data is None else {"Content-Type": "application/json"}
        try:
            async with (
                ClientSession() as session,
                session.request(
                    "GET" if data is None else "POST",
                    f"{url}/wan_duet/keys{path}",
                    data=data,
                    headers={**json_type, **sent},
                ) as answer,
            ):
                return answer.status, await answer.text()
        finally:
            await runner.cleanup()

    status, text = asyncio.run(talk())
    assert KEY not in text
    return status, json.loads(text)


def test_a_key_is_kept_for_its_owner_alone_and_taken_away_again(tmp_path: Path) -> None:
    assert ask(tmp_path) == (200, {"fal": None, "novita": None})
    assert ask(tmp_path, body=KEEP) == (200, {"fal": "file", "novita": None})
    assert find_key("fal", tmp_path).reveal() == KEY
    assert stat.S_IMODE((tmp_path / "keys.json").stat().st_mode) & 0o077 == 0
    assert ask(tmp_path, body={"provider": "fal", "key": " "}) == (200, {"fal": None, "novita": None})


def test_a_key_is_tried_and_what_goes_wrong_is_told(tmp_path: Path) -> None:
    assert ask(tmp_path, "/test", {"provider": "fal"}) == (200, {"accepted": True})
    status, told = ask(tmp_path, "/test", {"provider": "novita"})
    assert (status, "no answer" in told["error"]) == (400, True)


@pytest.mark.parametrize("headers", [{}, {"Origin": "HOST"}, {"Sec-Fetch-Site": "same-origin"}])
def test_comfyuis_own_page_and_programs_may_set_keys(tmp_path: Path, headers: Mapping[str, str]) -> None:
    assert ask(tmp_path, body=KEEP, headers=headers)[0] == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
    ],
)
@pytest.mark.parametrize("path", ["", "/test"])
def test_a_page_of_another_site_changes_and_asks_nothing(
    tmp_path: Path, path: str, headers: Mapping[str, str], status: int
) -> None:
    body = {"provider": "fal"} if path else KEEP
    assert ask(tmp_path, path, body, headers)[0] == status
    assert not (tmp_path / "keys.json").exists()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8188", 200),
        ("192.168.1.7:8188", 200),
        ("[::1]:8188", 200),
        (socket.gethostname(), 200),
        ("comfy.mine.example:8188", 200),
        ("rebound.example:8188", 403),
        ("127.0.0.1.rebound.example", 403),
        ("[::1", 403),
        ("", 403),
    ],
)
def test_a_name_that_somebody_else_can_give_sets_no_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, status: int
) -> None:
    monkeypatch.setenv("WAN_DUET_HOSTS", "other, Comfy.Mine.Example")
    got, told = ask(tmp_path, body=KEEP, headers={"Host": host})
    assert got == status
    assert (tmp_path / "keys.json").exists() == (status == 200)
    assert status == 200 or "WAN_DUET_HOSTS" in told["error"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        KEY.encode(),
        b"[" * 4000,
        [KEY],
        {"key": KEY},
        {**KEEP, "more": ""},
        {**KEEP, "provider": "other"},
        {"provider": "fal", "key": 7},
        {"provider": "fal", "key": "two words"},
        {"provider": "fal", "key": "x" * 5000},
    ],
)
def test_a_wrong_body_is_refused_without_repeating_it(tmp_path: Path, body: object) -> None:
    keep_key("novita", "sk_kept", tmp_path)
    status, told = ask(tmp_path, body=body)
    assert status == 400
    assert told["error"]
    assert ask(tmp_path) == (200, {"fal": None, "novita": "file"})
