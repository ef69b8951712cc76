"""Decides from an address alone, before any DNS query, whether files may be downloaded from its host.

Addresses come from users, providers and redirects. None of them may reach this machine, its network or the
metadata service of a cloud (server-side request forgery), however the host is spelled.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import httpx

from ..errors import DownloadError

__all__ = ["is_loopback", "is_public", "not_public", "require_fetchable"]

_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: the IPv4 address is in the last 32 bits
_GLOBAL_UNICAST = IPv6Network("2000::/3")  # RFC 4291 and IANA: all assigned addresses
# A name has a dot and a last label of letters: resolvers read 127.1, 2130706433 and 0x7f.1 as numbers. This
# is also how a URL tells the two apart (url.spec.whatwg.org, "ends in a number"). No "%" and no empty label.
_NAME = re.compile(r"(?:[a-z0-9_-]+\.)+(?:[a-z]{2,63}|xn--[a-z0-9-]+)\.?")
# RFC 6761, 6762 (with its appendix G) and 8375, and what ICANN keeps for private use (.internal, 2024).
_PRIVATE_NAMES = re.compile(
    r".*\.(?:localhost|localdomain|local|internal|intranet|private|corp|home|lan|home\.arpa)\.?"
)


def require_fetchable(url: httpx.URL, *, allow_loopback: bool = False, any_port: bool = False) -> None:
    """Raise DownloadError unless `url` is a plain https address and its host may be public.

    allow_loopback: also accept a numeric loopback address, with any port and also over http.
    any_port:       accept any port, not only 443.
    """
    try:
        host = url.raw_host.decode("ascii")  # as TLS and name servers know it
    except UnicodeError:
        raise DownloadError("the host name in the address is not valid; check the address") from None
    shown = host or "no host"
    here = allow_loopback and is_loopback(host)
    if url.scheme != "https" and not (here and url.scheme == "http"):
        raise DownloadError(f"{shown}: only https is supported, not {url.scheme or 'no scheme'}")
    if not host or url.userinfo:
        raise DownloadError(f"{shown}: the address has no host, or a user name; give one with a host only")
    if url.port is not None and not (here or any_port):  # httpx leaves the usual port out
        raise DownloadError(f"{shown}: only the default port of https is supported, not {url.port}")
    if not (here or _may_be_public(host)):
        raise not_public(host)


def is_public(address: str) -> bool:
    """Return whether a numeric address is on the public internet, not in this machine, its network or cloud.

    An IPv6 address that contains an IPv4 address is as public as that. Raises ValueError for a name.
    """
    ip = ip_address(address)
    if isinstance(ip, IPv4Address):
        return ip.is_global and not ip.is_multicast
    inner = _wrapped(ip)
    if inner is not None:
        return is_public(str(inner))
    return ip in _GLOBAL_UNICAST and ip.is_global


def is_loopback(host: str) -> bool:
    """Return whether `host` is a numeric loopback address in its normal notation."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def not_public(host: str) -> DownloadError:
    """Return the error for a host that is not public."""
    return DownloadError(f"{host}: not on the public internet; use an address at a public host")


def _may_be_public(host: str) -> bool:
    try:
        return is_public(host) and "%" not in host  # a zone names a network interface of this machine
    except ValueError:
        name = host.lower()
        return _NAME.fullmatch(name) is not None and _PRIVATE_NAMES.fullmatch(name) is None


def _wrapped(ip: IPv6Address) -> IPv4Address | None:
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
