"""A provider, made from the key and the addresses that the user has set."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from .fal import Fal
from .keys import find_key
from .novita import Novita
from .settings import Addresses, read_addresses

__all__ = ["account_at"]


def account_at(
    provider: str,
    folder: Path | None,
    environ: Mapping[str, str] = os.environ,
    addresses: Addresses | None = None,
) -> Fal | Novita:
    """The account of the user at "fal" or "novita", for use in one event loop.

    folder:    with keys and addresses; only its owner may look into it.
    addresses: instead of those in the folder.

    Raises KeyProblemError without a key, RequestError for addresses that may not be asked.
    """
    where = addresses or read_addresses(folder)
    key = find_key(provider, folder, environ)
    return Fal(key, where, folder) if provider == "fal" else Novita(key, where)
