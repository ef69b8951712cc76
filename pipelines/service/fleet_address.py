"""Where the service is that a client of this machine uses, and with which key: fleet.json, beside the keys.

    {"address": "https://gpu.example.com", "key": "wd-..."}

Plain http is taken to this machine, and to another one when the file says "allow_http": true.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from ..download.public_hosts import is_loopback
from ..errors import KeyProblemError, RequestError
from ..files.private_file import read_private, write_private

__all__ = ["FleetAddress", "has_fleet", "keep_address", "read_address_of_fleet"]

_FILE = "fleet.json"


@dataclass(frozen=True)
class FleetAddress:
    """address: base address, without a slash at the end. key: what the service gave this client."""

    address: str
    key: str = field(repr=False)


def has_fleet(folder: Path) -> bool:
    """Return whether an address was kept there."""
    return (folder / _FILE).exists()


def read_address_of_fleet(folder: Path) -> FleetAddress:
    """Return the address. Raises KeyProblemError if the file is missing, damaged, or others can read it."""
    file = folder / _FILE
    try:
        said = json.loads(read_private(file))
        address, key, allowed = said["address"], said["key"], said.get("allow_http", False)
        if not (isinstance(address, str) and isinstance(key, str) and key.isascii() and key.isprintable()):
            raise TypeError
    except FileNotFoundError:
        raise KeyProblemError(
            f"{file}: not there; run: wan-duet clients connect ADDRESS, with the address and the key of a "
            "`wan-duet serve`"
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise KeyProblemError(f"{file}: damaged; run wan-duet clients connect ADDRESS again") from None
    return FleetAddress(_checked(address, allow_http=allowed is True), key)


def keep_address(folder: Path, address: str, key: str, *, allow_http: bool = False) -> None:
    """Write the file. Raises RequestError for what is no address, KeyProblemError for what is no key."""
    checked, key = _checked(address, allow_http=allow_http), key.strip()
    if not key or not (key.isascii() and key.isprintable()) or " " in key:
        raise KeyProblemError("the key is empty, or has characters that a key cannot have; copy it again")
    content = {"address": checked, "key": key, **({"allow_http": True} if allow_http else {})}
    write_private(folder / _FILE, json.dumps(content), "cannot be written")


def _checked(address: str, *, allow_http: bool) -> str:
    try:
        url = httpx.URL(address.strip().rstrip("/"))
    except httpx.InvalidURL:
        raise RequestError.of("address", f"got {address[:80]!r}", "give one such as https://host") from None
    if not url.host or url.userinfo or url.query or url.fragment:
        raise RequestError.of("address", "not a base address", "give https:// and the name of a host")
    here = url.host == "localhost" or is_loopback(url.host)
    if url.scheme != "https" and not (url.scheme == "http" and (here or allow_http)):
        fix = "give https, or say --allow-http for a network of your own"
        raise RequestError.of("address", f"{url.scheme or 'no scheme'} would show the key to others", fix)
    return str(url)
