"""Which machines are asked for a file that somebody else has named: public ones, and no others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan_duet.pipelines.download.public_web import is_public
from wan_duet.pipelines.errors import DownloadError
from wan_duet.pipelines.remote.addresses import PublicTransport


class Recorder(httpx.AsyncBaseTransport):
    """Answers everything; keeps what it was asked. dead: addresses that nobody listens on."""

    def __init__(self, *dead: str) -> None:
        self.asked: list[httpx.Request] = []
        self.dead = dead

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if request.url.host in self.dead:
            raise httpx.ConnectError("refused")
        return httpx.Response(200)


def ask(url: str, resolved: Sequence[str], *dead: str, allow_loopback: bool = False) -> list[httpx.Request]:
    """The requests that went out for `url`, whose host has the addresses `resolved`."""
    inner = Recorder(*dead)
    transport = PublicTransport(inner, lambda host, port: resolved, allow_loopback=allow_loopback)
    asyncio.run(transport.handle_async_request(httpx.Request("GET", url)))
    return inner.asked


NOT_PUBLIC = [
    *("127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254"),
    *("100.64.0.1", "0.1.2.3", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "192.0.2.1"),
    *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "2001:db8::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1"),  # mapped, compatible
    *("64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::", "2002:a00:1::", "2001:0:7f00:1::1"),  # translated
]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_a_name_that_means_a_private_machine_is_refused(address: str) -> None:
    with pytest.raises(DownloadError, match="not on the public internet"):
        ask("https://files.example/a.mp4", [address])


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_one_private_address_among_public_ones_is_enough_to_refuse(address: str) -> None:
    with pytest.raises(DownloadError):
        ask("https://files.example/a.mp4", ["8.8.8.8", address])


def test_a_literal_private_address_is_refused() -> None:
    transport = PublicTransport(Recorder())
    for url in ("https://127.0.0.1/", "https://[::1]/", "https://[::ffff:10.0.0.1]/", "https://2130706433/"):
        with pytest.raises((DownloadError, httpx.ConnectError)):
            asyncio.run(transport.handle_async_request(httpx.Request("GET", url)))


@pytest.mark.parametrize(
    "url",
    [
        "http://files.example/a",
        "ftp://files.example/a",
        "file:///etc/passwd",
        "https://user:secret@files.example/a",
        "https://files.example:8443/a",
        "https://files.example:22/a",
    ],
)
def test_only_plain_https_addresses_are_asked(url: str) -> None:
    with pytest.raises(DownloadError) as caught:
        ask(url, ["8.8.8.8"])
    assert "secret" not in str(caught.value)


def test_the_address_that_was_looked_at_is_the_one_that_is_asked() -> None:
    answers = iter([["8.8.8.8"], ["127.0.0.1"]])  # a name server that changes its mind
    inner = Recorder()
    transport = PublicTransport(inner, lambda host, port: next(answers))
    asyncio.run(transport.handle_async_request(httpx.Request("GET", "https://files.example/a.mp4?b=c")))
    (asked,) = inner.asked
    assert str(asked.url) == "https://8.8.8.8/a.mp4?b=c"
    assert asked.headers["host"] == "files.example"
    assert asked.extensions["sni_hostname"] == "files.example"
    with pytest.raises(DownloadError):
        asyncio.run(transport.handle_async_request(httpx.Request("GET", "https://files.example/a.mp4")))


def test_an_address_that_nobody_listens_on_gives_way_to_the_next() -> None:
    asked = ask("https://files.example/a", ["2606:4700::1111", "8.8.8.8"], "2606:4700::1111")
    assert [request.url.host for request in asked] == ["2606:4700::1111", "8.8.8.8"]


def test_a_name_without_addresses_may_be_tried_again() -> None:
    def fail(host: str, port: int) -> list[str]:
        raise OSError("no such name")

    transport = PublicTransport(Recorder(), fail)
    with pytest.raises(httpx.ConnectError):
        asyncio.run(transport.handle_async_request(httpx.Request("GET", "https://files.example/")))


def test_loopback_is_asked_only_where_it_is_allowed() -> None:
    for url in ("http://127.0.0.1:8900/a", "https://127.0.0.1:8900/a", "http://[::1]:8900/a"):
        host = httpx.URL(url).host
        assert len(ask(url, [host], allow_loopback=True)) == 1
        with pytest.raises(DownloadError):
            ask(url, [host])


def test_where_loopback_is_allowed_nothing_else_is() -> None:
    for address in ("10.0.0.1", "169.254.169.254", "192.168.1.1", "::ffff:10.0.0.1"):
        with pytest.raises(DownloadError):
            ask("https://files.example/a", [address], allow_loopback=True)
    with pytest.raises(DownloadError):
        ask("http://files.example/a", ["8.8.8.8"], allow_loopback=True)


@given(st.ip_addresses(v=4))
def test_an_address_in_another_dress_is_as_public_as_itself(address: IPv4Address) -> None:
    number = int(address)
    for prefix in (0xFFFF << 32, 0x64FF9B << 96):
        assert is_public(str(IPv6Address(prefix | number))) == is_public(str(address))


@given(st.ip_addresses(v=6))
def test_no_ipv6_address_outside_of_what_is_given_out_is_public(address: IPv6Address) -> None:
    if int(address) >> 125 != 0b001 and address.ipv4_mapped is None and int(address) >> 32 != 0x64FF9B << 64:
        assert not is_public(str(address))
