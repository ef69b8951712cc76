"""Where providers are: their own addresses, or those of a file, and never a place that would show the key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.remote.settings import Addresses, read_addresses


def read(folder: Path, content: Any) -> Addresses:
    (folder / "providers.json").write_text(json.dumps(content))
    return read_addresses(folder)


def test_without_a_file_the_providers_are_where_they_are(tmp_path: Path) -> None:
    assert read_addresses(tmp_path) == read_addresses(None) == Addresses()
    addresses = (Addresses().fal_queue, Addresses().fal_rest, Addresses().fal_api, Addresses().novita_api)
    assert all(address.startswith("https://") for address in addresses)


def test_a_file_may_name_other_https_hosts(tmp_path: Path) -> None:
    found = read(tmp_path, {"fal": {"queue": "https://queue.falrun.com/"}, "novita": "https://a.example"})
    assert found.fal_queue == "https://queue.falrun.com"
    assert found.fal_rest == Addresses().fal_rest
    assert found.novita_api == "https://a.example"


def test_this_machine_is_asked_only_with_leave_in_the_same_file(tmp_path: Path) -> None:
    found = read(tmp_path, {"fal": "http://127.0.0.1:8900", "allow_loopback": True})
    assert found.fal_queue == "http://127.0.0.1:8900/queue"
    assert found.allow_loopback
    for content in (
        {"fal": "http://127.0.0.1:8900"},
        {"fal": "https://localhost"},
        {"fal": "http://[::1]:8900", "allow_loopback": False},
    ):
        with pytest.raises(RequestError, match=r"providers\.json: fal"):
            read(tmp_path, content)


@pytest.mark.parametrize(
    "url",
    [
        "http://a.example",
        "http://10.0.0.1",
        "ftp://a.example",
        "a.example",
        "https://",
        "https://user:pw@a.example",
        "https://a.example/?x=1",
        "https://a.example/#x",
        3,
        None,
        "http://127.0.0.1.a.example",
        "https://a.example:port",
    ],
)
def test_an_address_that_would_show_the_key_is_refused(tmp_path: Path, url: Any) -> None:
    with pytest.raises(RequestError):
        read(tmp_path, {"fal": {"queue": url}, "allow_loopback": True})


@pytest.mark.parametrize(
    "content",
    [[], {"fla": "https://a.example"}, {"fal": {"que": "https://a"}}, {"fal": 3}, {"allow_loopback": 1}],
)
def test_a_file_with_something_else_in_it_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(RequestError, match=r"providers\.json"):
        read(tmp_path, content)


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "providers.json").write_text("{")
    with pytest.raises(RequestError, match="cannot be read"):
        read_addresses(tmp_path)


def test_one_server_may_stand_for_a_provider() -> None:
    found = Addresses().at("novita", "http://127.0.0.1:8901/", allow_loopback=True)
    assert found.novita_api == "http://127.0.0.1:8901"
    with pytest.raises(RequestError):
        Addresses().at("novita", "http://127.0.0.1:8901", allow_loopback=False)
