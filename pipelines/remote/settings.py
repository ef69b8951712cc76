"""Where the providers are. A file beside the keys may say otherwise; a workflow or the environment never may.

    {"fal": {"queue": "https://queue.fal.run", "rest": "https://rest.fal.ai", "api": "https://api.fal.ai"},
     "novita": {"api": "https://api.novita.ai"}}

Whoever is named there gets the keys. Only https is taken; plain http is taken to this machine, when the same
file says "allow_loopback": true. A text in place of a table is one server for all services of a provider,
like those in tests/servers.

"proxy": "http://host:port" beside them is the way out of this network. Proxies of the environment are not
used: where the keys go is said in one place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from ..download.public_hosts import is_loopback
from ..errors import RequestError

__all__ = ["Addresses", "read_addresses"]

_FILE = "providers.json"
_KNOWN = {"fal", "novita", "allow_loopback", "proxy"}
_ONE_SERVER = {
    "fal": {"queue": "/queue", "rest": "/rest", "api": "/api"},
    "novita": {"api": ""},
}


@dataclass(frozen=True)
class Addresses:
    """Base addresses, without a slash at the end.

    allow_loopback: allow addresses and results on this machine.
    proxy:          for every connection; None for none.
    """

    fal_queue: str = "https://queue.fal.run"
    fal_rest: str = "https://rest.fal.ai"
    fal_api: str = "https://api.fal.ai"
    novita_api: str = "https://api.novita.ai"
    allow_loopback: bool = False
    proxy: str | None = field(default=None, repr=False)  # may hold a password

    def at(self, provider: str, url: str, *, allow_loopback: bool) -> Addresses:
        """Return these addresses with one server for all services of a provider.

        Raises RequestError if not allowed.
        """
        base = url.rstrip("/")
        given = {name: base + path for name, path in _ONE_SERVER[provider].items()}
        if allow_loopback and self.proxy is not None:
            raise RequestError.of("proxy", "set, and this machine is to be asked", "remove it for this")
        return _with(self, provider, given, allow_loopback or self.allow_loopback, "--provider-url")


def read_addresses(folder: Path | None) -> Addresses:
    """Return the addresses of the file in `folder`, else the providers' own.

    Raises RequestError that names the wrong entry.
    """
    if folder is None:
        return Addresses()
    file = folder / _FILE
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Addresses()
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError.of(str(file), f"cannot be read: {error}", "correct or delete it") from None
    if not isinstance(content, dict) or set(content) - _KNOWN:
        raise RequestError.of(str(file), "not a table of providers", f"give {', '.join(sorted(_KNOWN))}")
    allow = content.get("allow_loopback", False)
    if not isinstance(allow, bool):
        raise RequestError.of(f"{file}: allow_loopback", f"got {allow!r}", "give true or false")
    proxy = _checked_proxy(content.get("proxy"), allow, f"{file}: proxy")
    addresses = replace(Addresses(), allow_loopback=allow, proxy=proxy)
    for provider, services in _ONE_SERVER.items():
        given = content.get(provider, {})
        if isinstance(given, str):
            given = {name: given.rstrip("/") + path for name, path in services.items()}
        if not isinstance(given, dict) or set(given) - set(services):
            fix = f"give an address, or a table of {', '.join(services)}"
            raise RequestError.of(f"{file}: {provider}", "not addresses", fix)
        addresses = _with(addresses, provider, given, allow, str(file))
    return addresses


def _with(
    addresses: Addresses, provider: str, given: Mapping[str, Any], allow_loopback: bool, source: str
) -> Addresses:
    checked = {
        f"{provider}_{name}": _checked(url, allow_loopback, f"{source}: {provider}.{name}")
        for name, url in given.items()
    }
    return replace(addresses, allow_loopback=allow_loopback, **checked)


def _checked(url: Any, allow_loopback: bool, field: str) -> str:
    try:
        parsed = httpx.URL(url.rstrip("/"))
    except (AttributeError, TypeError, httpx.InvalidURL):
        raise RequestError.of(field, "not an address", "give one that begins with https://") from None
    if not parsed.host or parsed.userinfo or parsed.query or parsed.fragment:
        fix = "give https:// and the name of a host, without a user, a query or a fragment"
        raise RequestError.of(field, "not a base address", fix)
    here = parsed.host == "localhost" or is_loopback(parsed.host)
    if parsed.scheme != "https" and not (parsed.scheme == "http" and here):
        fix = "give https; plain http only to this machine, with allow_loopback beside it"
        raise RequestError.of(field, f"{parsed.scheme or 'no scheme'}, which would show the key", fix)
    if here and not allow_loopback:
        raise RequestError.of(field, "this machine", 'set "allow_loopback": true beside it')
    return str(parsed).rstrip("/")


def _checked_proxy(url: Any, allow_loopback: bool, field: str) -> str | None:
    """Return a valid proxy address. Errors do not repeat it: it may contain a password."""
    if url is None:
        return None
    try:
        sound = isinstance(url, str) and httpx.Proxy(url).url.scheme in ("http", "https")
    except (ValueError, httpx.InvalidURL):
        sound = False
    if not sound:
        raise RequestError.of(field, "not the address of a proxy", "give http://host:port")
    if allow_loopback:  # plain http would show the key to the proxy
        raise RequestError.of(field, "given with allow_loopback", "give one of the two")
    return str(url)
