"""`wan-duet keys`, through the command line's own entry."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wan_duet.pipelines.cli import main
from wan_duet.pipelines.remote.keys import PROVIDERS, find_key

from ..servers.fal import FalServer

KEY = "5f0c1d2e-aaaa-4bbb-8ccc-123456789abc:c0ffee00112233445566778899aabbcc"
Keys = Callable[..., int]


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keys:
    """Runs `wan-duet keys` on an empty folder, with this text on stdin."""
    for name in (*PROVIDERS.values(), "FAL_KEY_ID", "FAL_KEY_SECRET"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str, stdin: str = "") -> int:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        return main(["keys", *arguments, "--folder", str(tmp_path)])

    return run


@pytest.fixture
def fal(tmp_path: Path) -> Iterator[FalServer]:
    """One that takes KEY alone."""
    loop, server = asyncio.new_event_loop(), FalServer(key=KEY)
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.start(), loop).result()
    settings = {"fal": server.url, "allow_loopback": True}
    (tmp_path / "providers.json").write_text(json.dumps(settings), encoding="utf-8")
    yield server
    asyncio.run_coroutine_threadsafe(server.stop(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_a_key_is_read_from_stdin_kept_and_never_shown(
    keys: Keys, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert keys("set", "fal", stdin=f"{KEY}\n") == 0
    assert find_key("fal", tmp_path, {}).reveal() == KEY
    assert keys("list", "--json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out.splitlines()[-1]) == {"fal": "file", "novita": None}
    assert KEY not in said.out + said.err
    assert keys("forget", "fal", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"fal": None, "novita": None}


def test_no_key_is_kept_without_one(keys: Keys, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert keys("set", "novita", stdin="\n") == 1
    assert "novita: the key is empty" in capsys.readouterr().err
    assert not (tmp_path / "keys.json").exists()


@pytest.mark.parametrize(
    ("key", "code", "said"), [(KEY, 0, "fal takes the key"), ("k:x", 1, "does not take")]
)
def test_a_key_is_tried_without_spending(
    keys: Keys, fal: FalServer, capsys: pytest.CaptureFixture[str], key: str, code: int, said: str
) -> None:
    keys("set", "fal", stdin=key)
    assert keys("test", "fal") == code
    assert said in capsys.readouterr().out
    assert (fal.jobs, [method for method, _ in fal.seen]) == ({}, ["GET"])
