"""Requests that reach public machines only, whatever an address, a redirect or a name server says."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import httpx

from ..errors import DownloadError

__all__ = ["PublicTransport", "is_public", "proxy_of", "resolve"]

_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: the IPv4 address is in the last 32 bits
_GLOBAL_UNICAST = IPv6Network("2000::/3")  # RFC 4291 and IANA: all that is given out
# With a dot and a last label of letters: 127.1 and 0x7f000001 are numbers to many resolvers.
_PUBLIC_NAME = re.compile(r"(?:[a-z0-9_-]+\.)+(?:[a-z]{2,63}|xn--[a-z0-9-]+)")
_LOCAL_NAMES = (".localhost", ".local", ".internal", ".home.arpa", ".lan")
_PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


def proxy_of(environ: Mapping[str, str]) -> str | None:
    """The proxy for https that the user has set, None without one."""
    return next((environ[name].strip() for name in _PROXIES if environ.get(name, "").strip()), None)


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
    proxy:   the address of the user's own proxy. It resolves names itself and so decides what they reach;
             only what no public machine is called is refused here.
    """

    def __init__(
        self,
        inner: httpx.BaseTransport | None = None,
        resolve: Callable[[str, int], Sequence[str]] = resolve,
        allowed: Callable[[str], bool] = is_public,
        proxy: str | None = None,
    ) -> None:
        self._inner, self._proxy = inner, proxy
        self._resolve, self._allowed = resolve, allowed

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Raises DownloadError for a machine that is not public, else what httpx raises."""
        host = request.url.raw_host.decode("ascii")  # as TLS and name servers know it
        if self._proxy is not None:
            if not self._proxy.startswith(("http://", "https://")):  # not shown: it may hold a password
                raise DownloadError(
                    f"{_PROXIES[0]}: only proxies at http:// and https:// addresses are known"
                )
            if not self._sounds_public(host):
                raise _not_public(host)
            return self._connections().handle_request(request)
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
        return self._connections().handle_request(pinned)

    def _connections(self) -> httpx.BaseTransport:
        if self._inner is None:  # made late: it reads all certificates of the system
            limits = httpx.Limits(max_keepalive_connections=0)
            self._inner = httpx.HTTPTransport(limits=limits, proxy=self._proxy)
        return self._inner

    def _sounds_public(self, host: str) -> bool:
        try:
            return self._allowed(host)
        except ValueError:  # a name
            return _PUBLIC_NAME.fullmatch(host) is not None and not host.endswith(_LOCAL_NAMES)

    def _addresses(self, host: str, port: int) -> list[str]:
        try:
            found = [address.partition("%")[0] for address in self._resolve(host, port)]
        except (OSError, UnicodeError) as error:
            raise DownloadError(f"{host}: no such machine found: {error}") from None
        if not found or not all(map(self._allowed, found)):
            raise _not_public(host)
        return found


def _wrapped(ip: IPv6Address) -> IPv4Address | None:
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)


def _not_public(host: str) -> DownloadError:
    return DownloadError(f"{host}: not on the public internet; save the file yourself and give its name")
