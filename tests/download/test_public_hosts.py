"""Which hosts are asked for a file that somebody else has named: public ones, and no others.

Each promise is kept by blocking and by async requests, and also where a proxy would resolve the names.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan_duet.pipelines.download.public_hosts import is_public
from wan_duet.pipelines.download.public_web import PublicTransport
from wan_duet.pipelines.errors import DownloadError

PROXY = "http://proxy.example:3128"


class Recorder(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Answers everything; keeps what it was asked. dead: addresses that nobody listens on."""

    def __init__(self, *dead: str) -> None:
        self.asked: list[httpx.Request] = []
        self.dead = dead

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if request.url.host in self.dead:
            raise httpx.ConnectError("refused")
        return httpx.Response(200)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self.handle_request(request)


def send_blocking(transport: PublicTransport, url: str) -> None:
    transport.handle_request(httpx.Request("GET", url))


def send_async(transport: PublicTransport, url: str) -> None:
    asyncio.run(transport.handle_async_request(httpx.Request("GET", url)))


Send = Callable[[PublicTransport, str], None]


@pytest.fixture(params=[send_blocking, send_async])
def send(request: pytest.FixtureRequest) -> Send:
    found: Send = request.param
    return found


def ask(
    send: Send,
    url: str,
    resolved: Sequence[str] = ("8.8.8.8",),
    *dead: str,
    proxy: str | None = None,
    allow_loopback: bool = False,
    any_port: bool = False,
) -> list[httpx.Request]:
    """The requests that went out for `url`, whose host has the addresses `resolved`."""
    inner = Recorder(*dead)
    transport = PublicTransport(
        inner, lambda host, port: resolved, proxy=proxy, allow_loopback=allow_loopback, any_port=any_port
    )
    try:
        send(transport, url)
    except DownloadError:
        assert inner.asked == []
        raise
    return inner.asked


NOT_PUBLIC = [
    *("127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254"),
    *("100.64.0.1", "0.1.2.3", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "192.0.2.1"),
    *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "2001:db8::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1"),  # mapped, compatible
    *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1"),  # NAT64
    *("2002:7f00:1::", "2002:a00:1::", "2001:0:7f00:1::1"),  # 6to4, Teredo
]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_a_name_that_means_a_private_machine_is_refused(send: Send, address: str) -> None:
    for resolved in ([address], ["8.8.8.8", address]):
        with pytest.raises(DownloadError, match=r"^files\.example: not on the public internet"):
            ask(send, "https://files.example/a.mp4", resolved)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_a_literal_private_address_is_refused(send: Send, address: str) -> None:
    host = f"[{address.replace('%', '%25')}]" if ":" in address else address
    for proxy in (None, PROXY):
        with pytest.raises(DownloadError, match="not on the public internet"):
            ask(send, f"https://{host}/a", proxy=proxy)


@pytest.mark.parametrize(
    "host",
    [
        *("2130706433", "127.1", "127.0.1", "0x7f.1", "0x7f000001", "017700000001", "a.b.1"),
        *("127.0.0.1.", "127.0.0.1..", "%31%32%37.0.0.1", "127.0.0%2e1", "127。0。0。1", "0X7F.0.0.1"),
        *("localhost", "localhost.", "LOCALHOST", "a.localhost", "a.localhost.", "localhost.localdomain"),
        *("nas", "nas.local", "a.internal", "metadata.google.internal", "metadata.google.internal."),
        *("a.home.arpa", "a.lan", "a.corp", "a..example", ".example", "a.example..", "a.%69nternal"),
        *("[::ffff:7f00:1]", "[0:0:0:0:0:0:0:1]", "[2606:4700::1111%25eth0]"),
    ],
)
def test_a_host_that_is_no_public_name_is_refused_however_it_is_spelled(send: Send, host: str) -> None:
    """Even where the name server of this network, or the proxy, would find a public address for it."""
    for proxy in (None, PROXY):
        with pytest.raises(DownloadError, match="not on the public internet"):
            ask(send, f"https://{host}/a", proxy=proxy)


@pytest.mark.parametrize(
    "host",
    ["files.example", "FILES.example.", "v3.fal.media", "a_b.c-d.example", "bücher.example", "8.8.8.8"],
)
def test_a_public_host_is_asked(send: Send, host: str) -> None:
    for proxy in (None, PROXY):
        assert len(ask(send, f"https://{host}/a", proxy=proxy)) == 1


_PRIVATE_RANGES = ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16")
_PRIVATE = [IPv4Network(text) for text in _PRIVATE_RANGES]


def _number(value: int) -> st.SearchStrategy[str]:
    return st.sampled_from([f"{value}", f"0{value:o}", f"0x{value:x}", f"0X{value:X}", f"0x{value:08x}"])


@st.composite
def spellings(draw: st.DrawFn) -> str:
    """A private IPv4 address as some resolver, proxy or translator reads it (inet_aton(3), RFC 3986)."""
    network = draw(st.sampled_from(_PRIVATE))
    address = draw(st.ip_addresses(v=4, network=network))
    prefix = draw(st.sampled_from([None, 0xFFFF << 32, 0, 0x64FF9B << 96, "6to4"]))
    if prefix == "6to4":
        return f"[{IPv6Address(0x2002 << 112 | int(address) << 80)}]"
    if isinstance(prefix, int):
        wrapped = IPv6Address(prefix | int(address))
        return f"[{draw(st.sampled_from([wrapped.compressed, wrapped.exploded]))}]"
    parts = draw(st.integers(1, 4))  # the last part stands for all bytes that are left
    first = [address.packed[index] for index in range(parts - 1)]
    rest = int(address) & ((1 << 8 * (5 - parts)) - 1)
    dot = draw(st.sampled_from([".", "。", "%2e"]))
    host = dot.join(draw(_number(value)) for value in (*first, rest))
    if draw(st.booleans()):
        at = draw(st.integers(0, len(host) - 1))
        if host[at].isascii() and host[at].isalnum() and "%" not in host:
            host = f"{host[:at]}%{ord(host[at]):02x}{host[at + 1 :]}"
    return host + draw(st.sampled_from(["", "."]))


@given(spellings(), st.sampled_from([None, PROXY]), st.booleans())
def test_no_spelling_of_a_private_address_is_asked(host: str, proxy: str | None, any_port: bool) -> None:
    inner = Recorder()
    transport = PublicTransport(inner, _as_libc_reads_it, proxy=proxy, any_port=any_port)
    with pytest.raises((DownloadError, httpx.InvalidURL)):
        send_blocking(transport, f"https://{host}/a")
    assert inner.asked == []


def _as_libc_reads_it(host: str, port: int) -> list[str]:
    try:
        return [socket.inet_ntoa(socket.inet_aton(host))]
    except OSError:
        return [str(ipaddress.ip_address(host))]


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
def test_only_plain_https_addresses_are_asked(send: Send, url: str) -> None:
    for proxy in (None, PROXY):
        with pytest.raises(DownloadError) as caught:
            ask(send, url, proxy=proxy)
        assert "secret" not in str(caught.value)


def test_another_port_is_asked_where_that_is_wanted(send: Send) -> None:
    (asked,) = ask(send, "https://files.example:8443/a", any_port=True)
    assert str(asked.url) == "https://8.8.8.8:8443/a"
    with pytest.raises(DownloadError, match="not on the public internet"):
        ask(send, "https://127.0.0.1:8443/a", any_port=True)


def test_the_address_that_was_looked_at_is_the_one_that_is_asked(send: Send) -> None:
    answers = iter([["8.8.8.8"], ["127.0.0.1"]])  # a name server that changes its mind
    inner = Recorder()
    transport = PublicTransport(inner, lambda host, port: next(answers))
    send(transport, "https://files.example/a.mp4?b=c")
    (asked,) = inner.asked
    assert str(asked.url) == "https://8.8.8.8/a.mp4?b=c"
    assert asked.headers["host"] == "files.example"
    assert asked.extensions["sni_hostname"] == "files.example"
    with pytest.raises(DownloadError):
        send(transport, "https://files.example/a.mp4")


def test_an_address_that_nobody_listens_on_gives_way_to_the_next(send: Send) -> None:
    asked = ask(send, "https://files.example/a", ["2606:4700::1111", "8.8.8.8"], "2606:4700::1111")
    assert [request.url.host for request in asked] == ["2606:4700::1111", "8.8.8.8"]


def test_a_name_without_addresses_may_be_tried_again(send: Send) -> None:
    def fail(host: str, port: int) -> list[str]:
        raise OSError("no such name")

    with pytest.raises(httpx.ConnectError, match="cannot be resolved"):
        send(PublicTransport(Recorder(), fail), "https://files.example/")


def test_loopback_is_asked_only_where_it_is_allowed(send: Send) -> None:
    for url in ("http://127.0.0.1:8900/a", "https://127.0.0.1:8900/a", "http://[::1]:8900/a"):
        host = httpx.URL(url).host
        assert len(ask(send, url, [host], allow_loopback=True)) == 1
        for proxy in (None, PROXY):
            with pytest.raises(DownloadError):
                ask(send, url, [host], proxy=proxy)
        with pytest.raises(DownloadError):  # through a proxy it would be the proxy's machine
            ask(send, url, [host], proxy=PROXY, allow_loopback=True)


def test_where_loopback_is_allowed_nothing_else_is(send: Send) -> None:
    for address in ("10.0.0.1", "169.254.169.254", "192.168.1.1", "::ffff:10.0.0.1"):
        with pytest.raises(DownloadError):
            ask(send, "https://files.example/a", [address], allow_loopback=True)
    for url in (
        "http://files.example/a",
        "http://127.1:8900/a",
        "http://localhost:8900/a",
        "http://10.0.0.1/a",
    ):
        with pytest.raises(DownloadError):
            ask(send, url, allow_loopback=True)


@given(st.ip_addresses(v=4))
def test_an_address_in_another_dress_is_as_public_as_itself(address: IPv4Address) -> None:
    number = int(address)
    for prefix in (0xFFFF << 32, 0x64FF9B << 96):
        assert is_public(str(IPv6Address(prefix | number))) == is_public(str(address))


@given(st.ip_addresses(v=6))
def test_no_ipv6_address_outside_of_what_is_given_out_is_public(address: IPv6Address) -> None:
    if int(address) >> 125 != 0b001 and address.ipv4_mapped is None and int(address) >> 32 != 0x64FF9B << 64:
        assert not is_public(str(address))
