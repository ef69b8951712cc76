"""Connections that reach public machines only, for files whose address somebody else has chosen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import ip_address

import httpx

from ..download.public_web import is_public, resolve
from ..errors import DownloadError
from .api import tls

__all__ = ["ProxiedTransport", "PublicTransport", "require_fetchable"]

_FEW = httpx.Limits(max_connections=16, max_keepalive_connections=0)


def require_fetchable(url: httpx.URL, *, allow_loopback: bool) -> None:
    """Raise DownloadError unless `url` may be asked for, as far as it can be told without a name server."""
    here = allow_loopback and _is_loopback(url.host)
    if url.scheme != "https" and not (here and url.scheme == "http"):
        raise DownloadError(
            f"{url.host or 'no host'}: only https is fetched, not {url.scheme or 'no scheme'}"
        )
    if not url.host or url.userinfo:
        raise DownloadError(f"{url.host or 'no host'}: not a plain address of a file")
    if url.port is not None and not here:  # httpx leaves the usual port out
        raise DownloadError(f"{url.host}: files are fetched from the usual port only, not from {url.port}")


class PublicTransport(httpx.AsyncBaseTransport):
    """Resolves a name once, looks at every address, and connects to what it has looked at.

    A name that changes its address in between (DNS rebinding) gains nothing; TLS still verifies the name.

    inner:          makes the connections, and keeps none: two names may share an address.
    resolve:        numeric addresses of (host, port); it may block.
    allow_loopback: this machine counts as public.
    """

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport | None = None,
        resolve: Callable[[str, int], Sequence[str]] = resolve,
        *,
        allow_loopback: bool = False,
    ) -> None:
        self._inner = inner or httpx.AsyncHTTPTransport(verify=tls(), limits=_FEW)
        self._resolve, self._allow_loopback = resolve, allow_loopback

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises DownloadError for a machine that is not public, else what httpx raises."""
        require_fetchable(request.url, allow_loopback=self._allow_loopback)
        host, port = request.url.host, request.url.port or (443 if request.url.scheme == "https" else 80)
        *others, last = await self._addresses(host, port)
        for address in others:  # a machine without IPv6 cannot reach the first of most names
            with suppress(httpx.ConnectError, httpx.ConnectTimeout):
                return await self._send(request, host, address)
        return await self._send(request, host, last)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _send(self, request: httpx.Request, host: str, address: str) -> httpx.Response:
        pinned = httpx.Request(
            request.method,
            request.url.copy_with(host=address),
            headers=request.headers,  # with the Host that was asked for
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": host},
        )
        return await self._inner.handle_async_request(pinned)

    async def _addresses(self, host: str, port: int) -> list[str]:
        try:
            given = await asyncio.to_thread(self._resolve, host, port)
            found = [address.partition("%")[0] for address in given]
        except (OSError, UnicodeError) as error:
            raise httpx.ConnectError(f"{host}: no such machine found: {error}") from None
        if not found or not all(map(self._is_allowed, found)):
            raise DownloadError(f"{host}: not on the public internet")
        return found

    def _is_allowed(self, address: str) -> bool:
        return is_public(address) or (self._allow_loopback and _is_loopback(address))


class ProxiedTransport(httpx.AsyncBaseTransport):
    """Through the proxy that the user has set. It resolves the names, often because nobody else can, and it
    decides which machines it reaches; addresses that are private as they stand are refused all the same.
    """

    def __init__(self, proxy: str | None, inner: httpx.AsyncBaseTransport | None = None) -> None:
        self._inner = inner or httpx.AsyncHTTPTransport(verify=tls(), limits=_FEW, proxy=proxy)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises DownloadError for an address that is not public, else what httpx raises."""
        require_fetchable(request.url, allow_loopback=False)
        host = request.url.host
        if host == "localhost" or (_is_numeric(host) and not is_public(host)):
            raise DownloadError(f"{host}: not on the public internet")
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


def _is_numeric(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return _is_numeric(host) and ip_address(host).is_loopback
