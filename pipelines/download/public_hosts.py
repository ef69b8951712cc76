"""Which hosts files are fetched from, decided by the address alone, before any name server is asked.

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
_GLOBAL_UNICAST = IPv6Network("2000::/3")  # RFC 4291 and IANA: all that is given out
# A name has a dot and a last label of letters: resolvers read 127.1, 2130706433 and 0x7f.1 as numbers. This
# is also how a URL tells the two apart (url.spec.whatwg.org, "ends in a number"). No "%" and no empty label.
_NAME = re.compile(r"(?:[a-z0-9_-]+\.)+(?:[a-z]{2,63}|xn--[a-z0-9-]+)\.?")
# RFC 6761, 6762 (with its appendix G) and 8375, and what ICANN keeps for private use (.internal, 2024).
_PRIVATE_NAMES = re.compile(
    r".*\.(?:localhost|localdomain|local|internal|intranet|private|corp|home|lan|home\.arpa)\.?"
)


def require_fetchable(url: httpx.URL, *, allow_loopback: bool = False, any_port: bool = False) -> None:
    """Raise DownloadError unless `url` is a plain https address of what may be a public host.

    allow_loopback: a numeric loopback address counts as public, with any port and also over http.
    any_port:       not only the usual port of https.
    """
    try:
        host = url.raw_host.decode("ascii")  # as TLS and name servers know it
    except UnicodeError:
        raise DownloadError("the name of the host cannot be read") from None
    shown = host or "no host"
    here = allow_loopback and is_loopback(host)
    if url.scheme != "https" and not (here and url.scheme == "http"):
        raise DownloadError(f"{shown}: only https is fetched, not {url.scheme or 'no scheme'}")
    if not host or url.userinfo:
        raise DownloadError(f"{shown}: not a plain address of a file; give one without a user")
    if url.port is not None and not (here or any_port):  # httpx leaves the usual port out
        raise DownloadError(f"{shown}: files are fetched from the usual port only, not from {url.port}")
    if not (here or _may_be_public(host)):
        raise not_public(host)


def is_public(address: str) -> bool:
    """Whether a numeric address belongs to the open internet: not to this machine, its network or its cloud.

    An IPv6 address that wraps an IPv4 one is as public as that. Raises ValueError for a name.
    """
    ip = ip_address(address)
    if isinstance(ip, IPv4Address):
        return ip.is_global and not ip.is_multicast
    inner = _wrapped(ip)
    if inner is not None:
        return is_public(str(inner))
    return ip in _GLOBAL_UNICAST and ip.is_global


def is_loopback(host: str) -> bool:
    """Whether `host` is a numeric address of this machine, in its plain spelling."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def not_public(host: str) -> DownloadError:
    """The error that says so."""
    return DownloadError(f"{host}: not on the public internet; files are fetched from public hosts only")


def _may_be_public(host: str) -> bool:
    try:
        return is_public(host) and "%" not in host  # a zone names a network card of this machine
    except ValueError:
        name = host.lower()
        return _NAME.fullmatch(name) is not None and _PRIVATE_NAMES.fullmatch(name) is None


def _wrapped(ip: IPv6Address) -> IPv4Address | None:
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
