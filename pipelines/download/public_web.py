"""HTTP requests that reach only public hosts, whatever an address, a redirect or a DNS server says."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache

import httpx

from ..errors import DownloadError
from .address import shown
from .public_hosts import is_loopback, is_public, not_public, require_fetchable

__all__ = ["PublicTransport", "proxy_of", "redirected", "resolve", "tls", "url_of"]

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
_FEW = httpx.Limits(max_connections=16, max_keepalive_connections=0)  # two names may share an address


def proxy_of(environ: Mapping[str, str]) -> str | None:
    """Return the https proxy set in `environ`, or None."""
    return next((environ[name].strip() for name in _PROXIES if environ.get(name, "").strip()), None)


def resolve(host: str, port: int) -> list[str]:
    """Return the numeric addresses of a host name, by the system's resolver. Raises OSError without any."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


@cache
def tls() -> ssl.SSLContext:
    """Return the TLS context. It is created once, because it reads all trusted certificates."""
    return httpx.create_ssl_context()


def url_of(text: str, base: httpx.URL | None = None) -> httpx.URL:
    """Parse `text` as an address, which may be relative to `base`. Raises DownloadError if it is not one."""
    try:
        url = httpx.URL(text) if base is None else base.join(text)
        _ = url.host  # httpx decodes it in many places, and not every name can be
    except (httpx.InvalidURL, UnicodeError):
        raise DownloadError(f"{shown(text)}: not a valid address; check it") from None
    return url


def redirected(at: httpx.URL, response: httpx.Response) -> httpx.URL | None:
    """Return the target of a redirect, or None if `response` is not one. The transport checks the target.

    Raises DownloadError for a redirect without an address.
    """
    if response.status_code not in _REDIRECTS:
        return None
    if not (location := response.headers.get("location")):
        raise DownloadError(f"{shown(str(at))}: the server redirects without an address; try again later")
    return url_of(location, at)


class PublicTransport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Checks that the host of each request is public, and connects to the address that was checked.

    A name is resolved once, so a name that changes its address in between (DNS rebinding) gains nothing. TLS
    still verifies the name. Redirects are returned to the caller, so each one is checked as a new request.

    inner:          makes the connections, blocking or async. It must not keep connections alive.
    resolve:        returns the numeric addresses of (host, port); it may block.
    proxy:          the user's proxy. The proxy resolves names, so only the name can be checked. This machine
                    is never reached through it.
    allow_loopback: accept numeric addresses of this machine.
    any_port:       accept any port, not only 443.
    """

    def __init__(
        self,
        inner: httpx.BaseTransport | httpx.AsyncBaseTransport | None = None,
        resolve: Callable[[str, int], Sequence[str]] = resolve,
        *,
        proxy: str | None = None,
        allow_loopback: bool = False,
        any_port: bool = False,
    ) -> None:
        self._inner, self._resolve, self._proxy = inner, resolve, proxy
        self._allow_loopback = allow_loopback and proxy is None
        self._any_port = any_port

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a blocking request. Raises DownloadError for a host that is not public, and httpx errors."""
        *others, last = self._allowed(request)
        for other in others:  # a machine without IPv6 cannot reach the first address of most names
            with suppress(httpx.ConnectError, httpx.ConnectTimeout):
                return self._blocking().handle_request(other)
        return self._blocking().handle_request(last)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send an async request. Raises as `handle_request`."""
        *others, last = await asyncio.to_thread(self._allowed, request)
        for other in others:
            with suppress(httpx.ConnectError, httpx.ConnectTimeout):
                return await self._awaiting().handle_async_request(other)
        return await self._awaiting().handle_async_request(last)

    def close(self) -> None:
        if isinstance(self._inner, httpx.BaseTransport):
            self._inner.close()

    async def aclose(self) -> None:
        if isinstance(self._inner, httpx.AsyncBaseTransport):
            await self._inner.aclose()

    def _allowed(self, request: httpx.Request) -> list[httpx.Request]:
        """Return `request` once for each address of its host. Raises DownloadError if one is not public."""
        require_fetchable(request.url, allow_loopback=self._allow_loopback, any_port=self._any_port)
        if self._proxy is not None:
            if not self._proxy.startswith(("http://", "https://")):  # not shown: it may hold a password
                raise DownloadError(
                    f"{_PROXIES[0]}: only proxies with an http:// or https:// address are supported"
                )
            return [request]
        host = request.url.raw_host.decode("ascii")
        port = request.url.port or (443 if request.url.scheme == "https" else 80)
        return [_pinned(request, host, address) for address in self._addresses(host, port)]

    def _addresses(self, host: str, port: int) -> list[str]:
        try:
            found = [address.partition("%")[0] for address in self._resolve(host, port)]
        except (OSError, UnicodeError) as error:
            raise httpx.ConnectError(f"{host}: the host name cannot be resolved: {error}") from None
        if not found or not all(map(self._is_allowed, found)):
            raise not_public(host)
        return found

    def _is_allowed(self, address: str) -> bool:
        return is_public(address) or (self._allow_loopback and is_loopback(address))

    # Transports are created at the first request, because that reads the certificates of the system.

    def _blocking(self) -> httpx.BaseTransport:
        if self._inner is None:
            self._inner = httpx.HTTPTransport(verify=tls(), limits=_FEW, proxy=self._proxy)
        if not isinstance(self._inner, httpx.BaseTransport):
            raise TypeError("this transport is for async requests")
        return self._inner

    def _awaiting(self) -> httpx.AsyncBaseTransport:
        if self._inner is None:
            self._inner = httpx.AsyncHTTPTransport(verify=tls(), limits=_FEW, proxy=self._proxy)
        if not isinstance(self._inner, httpx.AsyncBaseTransport):
            raise TypeError("this transport is for blocking requests")
        return self._inner


def _pinned(request: httpx.Request, host: str, address: str) -> httpx.Request:
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,  # with the Host that was asked for
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": host},
    )
