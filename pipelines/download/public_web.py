"""Requests that reach public machines only, whatever an address, a redirect or a name server says."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import httpx

from ..errors import DownloadError

__all__ = ["PublicTransport", "is_public", "resolve"]

_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: the IPv4 address is in the last 32 bits
_GLOBAL_UNICAST = IPv6Network("2000::/3")  # RFC 4291 and IANA: all that is given out


def resolve(host: str, port: int) -> list[str]:
    """The numeric addresses of a name, as the system sees them. Raises OSError when there are none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def is_public(address: str) -> bool:
    """Whether a numeric address belongs to the open internet: not to this machine, its network or its cloud.

    An IPv6 address that wraps an IPv4 one is as public as that.
    """
    ip = ip_address(address)
    if isinstance(ip, IPv4Address):
        return ip.is_global and not ip.is_multicast
    inner = _wrapped(ip)
    if inner is not None:
        return is_public(str(inner))
    return ip in _GLOBAL_UNICAST and ip.is_global


class PublicTransport(httpx.BaseTransport):
    """Resolves a name once, looks at every address, and connects to what it has looked at.

    A name that changes its address in between (DNS rebinding) gains nothing. TLS still verifies the name.
    inner:   makes the connections. It must keep none alive: two names may share an address, not a connection.
    resolve: numeric addresses of (host, port).
    """

    def __init__(
        self,
        inner: httpx.BaseTransport | None = None,
        resolve: Callable[[str, int], Sequence[str]] = resolve,
        allowed: Callable[[str], bool] = is_public,
    ) -> None:
        self._inner = inner
        self._resolve, self._allowed = resolve, allowed

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Raises DownloadError for a machine that is not public, else what httpx raises."""
        host = request.url.raw_host.decode("ascii")  # as TLS and name servers know it
        *others, last = self._addresses(host, request.url.port or 443)
        for address in others:  # a machine without IPv6 cannot reach the first of most names
            with suppress(httpx.ConnectError, httpx.ConnectTimeout):
                return self._send(request, host, address)
        return self._send(request, host, last)

    def close(self) -> None:
        if self._inner is not None:
            self._inner.close()

    def _send(self, request: httpx.Request, host: str, address: str) -> httpx.Response:
        pinned = httpx.Request(
            request.method,
            request.url.copy_with(host=address),
            headers=request.headers,  # with the Host that was asked for
            extensions={**request.extensions, "sni_hostname": host},
        )
        if self._inner is None:  # made late: it reads all certificates of the system
            self._inner = httpx.HTTPTransport(limits=httpx.Limits(max_keepalive_connections=0))
        return self._inner.handle_request(pinned)

    def _addresses(self, host: str, port: int) -> list[str]:
        try:
            found = [address.partition("%")[0] for address in self._resolve(host, port)]
        except (OSError, UnicodeError) as error:
            raise DownloadError(f"{host}: no such machine found: {error}") from None
        if not found or not all(map(self._allowed, found)):
            raise DownloadError(
                f"{host}: not on the public internet; save the file yourself and give its name"
            )
        return found


def _wrapped(ip: IPv6Address) -> IPv4Address | None:
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
