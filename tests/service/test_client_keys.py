"""Keys of clients: shown once, kept as a hash, in a file that only its owner can read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from wan_duet.pipelines.errors import KeyProblemError, RequestError
from wan_duet.pipelines.service.client_keys import (
    add_client,
    client_of,
    read_clients,
    remove_client,
    webhook_secret,
)


def test_a_key_is_known_again_and_is_not_in_the_file(tmp_path: Path) -> None:
    key = add_client(tmp_path, "studio", usd_per_day=2.0, per_minute=3)
    add_client(tmp_path, "other")
    clients = read_clients(tmp_path)
    found = client_of(key, clients)
    assert found is not None
    assert (found.name, found.usd_per_day, found.per_minute) == ("studio", 2.0, 3)
    assert client_of(f"{key}x", clients) is None
    assert key not in (tmp_path / "clients.json").read_text()
    assert webhook_secret(found.sha256).startswith("whsec_")


def test_a_removed_client_is_unknown(tmp_path: Path) -> None:
    key = add_client(tmp_path, "studio")
    remove_client(tmp_path, "studio")
    assert client_of(key, read_clients(tmp_path)) is None
    with pytest.raises(RequestError, match="nobody yet"):
        remove_client(tmp_path, "studio")


@pytest.mark.parametrize("name", ["", "a b", "-a", "a/b", "x" * 65])
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RequestError, match="NAME"):
        add_client(tmp_path, name)


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    add_client(tmp_path, "studio")
    with pytest.raises(RequestError, match="there is a client studio"):
        add_client(tmp_path, "studio")


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such modes")
def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    add_client(tmp_path, "studio")
    file = tmp_path / "clients.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o644)
    with pytest.raises(KeyProblemError, match="chmod 600"):
        read_clients(tmp_path)


def test_a_damaged_file_is_told_without_its_content(tmp_path: Path) -> None:
    (tmp_path / "clients.json").write_text('{"clients": [{"secret": 1}]}')
    (tmp_path / "clients.json").chmod(0o600)
    with pytest.raises(KeyProblemError, match="damaged") as caught:
        read_clients(tmp_path)
    assert "secret" not in str(caught.value)
