"""The clients of `wan-duet serve`: a file that only its owner can read holds the hash of each key.

A key is shown once, when it is made. The secret with which webhooks are signed is the hash itself, so that
client and service both know it and the file holds nothing that opens the service.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import KeyProblemError, RequestError
from ..files.private_file import read_private, write_private

__all__ = ["ServiceClient", "add_client", "client_of", "read_clients", "remove_client", "webhook_secret"]

_FILE = "clients.json"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class ServiceClient:
    """Who may send requests.

    sha256:      of the key, in hex.
    usd_per_day: what its jobs of one calendar day may cost, in US dollars; None is no limit.
    per_minute:  how many jobs it may send within any minute; None is no limit.
    """

    name: str
    sha256: str
    usd_per_day: float | None = None
    per_minute: int | None = None


def add_client(
    folder: Path, name: str, *, usd_per_day: float | None = None, per_minute: int | None = None
) -> str:
    """Add a client, and return its new key. Raises RequestError for a name that is taken or not possible,
    and KeyProblemError if the file cannot be read or written.
    """
    clients = read_clients(folder)
    if not _NAME.fullmatch(name):
        fix = "give up to 64 letters, digits, dots, dashes and underscores; the first is no dot or dash"
        raise RequestError.of("NAME", f"got {name[:80]!r}", fix)
    if any(client.name == name for client in clients):
        raise RequestError.of("NAME", f"there is a client {name}", "give another, or remove that one first")
    key = f"wd-{secrets.token_urlsafe(32)}"
    _write(folder, [*clients, ServiceClient(name, _sha256(key), usd_per_day, per_minute)])
    return key


def remove_client(folder: Path, name: str) -> None:
    """Remove a client: its key opens nothing from now on. Raises RequestError if there is none."""
    clients = read_clients(folder)
    left = [client for client in clients if client.name != name]
    if len(left) == len(clients):
        known = ", ".join(client.name for client in clients) or "nobody yet"
        raise RequestError.of("NAME", f"there is no client {name[:80]!r}", f"known clients: {known}")
    _write(folder, left)


def read_clients(folder: Path) -> list[ServiceClient]:
    """Return all clients. Raises KeyProblemError if others can read the file, or if it is damaged."""
    file = folder / _FILE
    try:
        return [ServiceClient(**entry) for entry in json.loads(read_private(file))["clients"]]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError, RecursionError):
        raise KeyProblemError(f"{file}: damaged; delete it and add the clients again") from None


def client_of(key: str, clients: list[ServiceClient]) -> ServiceClient | None:
    """Return the client with this key. The time it takes says nothing about the key."""
    found, sha256 = None, _sha256(key)
    for client in clients:
        if hmac.compare_digest(client.sha256, sha256):
            found = client
    return found


def webhook_secret(sha256: str) -> str:
    """Return the secret of a client's webhooks, as libraries of standardwebhooks.com take it."""
    return "whsec_" + base64.b64encode(bytes.fromhex(sha256)).decode()


def _sha256(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _write(folder: Path, clients: list[ServiceClient]) -> None:
    text = json.dumps({"clients": [asdict(client) for client in clients]})
    write_private(folder / _FILE, text, "clients cannot be saved there")
