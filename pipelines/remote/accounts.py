"""Creates the client of a provider from the key and the addresses that the user has set."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from ..errors import KeyProblemError
from .fal import Fal
from .job_record import Job
from .keys import Key, find_key, where_keys_are
from .novita import Novita
from .settings import Addresses, read_addresses

__all__ = ["Accounts", "account_at"]


def account_at(
    provider: str,
    folder: Path | None,
    environ: Mapping[str, str] = os.environ,
    addresses: Addresses | None = None,
) -> Fal | Novita:
    """Return the user's account at "fal" or "novita", for one event loop.

    folder:    of keys and addresses; only its owner may read it.
    addresses: used instead of those in the folder.

    Raises KeyProblemError without a key, and RequestError for addresses that are not allowed.
    """
    where = addresses or read_addresses(folder)
    return _account(find_key(provider, folder, environ), where, folder)


class Accounts:
    """The accounts of a long-running process.

    Each is created once, so its jobs share connections and retries.

    Key and addresses are read again for every new job, so a change needs no restart. A job keeps the account
    it was started with.

    run: returns the value of a coroutine, run on the event loop of the accounts, as `RemoteThread.run`.
    """

    def __init__(
        self,
        folder: Path,
        run: Callable[[Coroutine[Any, Any, Any]], Any],
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._folder, self._run, self._environ = folder, run, environ
        self._made: dict[tuple[str, str, Addresses], Fal | Novita] = {}
        self._lock = threading.Lock()

    def at(self, provider: str) -> Fal | Novita:
        """Return the account at `provider` with the current key and addresses. Raises as `account_at`."""
        key, where = find_key(provider, self._folder, self._environ), read_addresses(self._folder)
        name = (provider, key.account, where)

        async def connect() -> Fal | Novita:
            return _account(key, where, self._folder)

        with self._lock:
            if name not in self._made:
                self._made[name] = self._run(connect())
            return self._made[name]

    def of(self, job: Job) -> Fal | Novita:
        """Return the account that a job was started with.

        Raises KeyProblemError if its key is no longer set.
        """
        account = self.at(job.provider)
        if account.account != job.account:
            raise KeyProblemError(
                f"job {job.job_id[:8]} was started with another {job.provider} key; set that one"
            )
        return account

    def all(self) -> list[Fal | Novita]:
        """Return the accounts of all providers that have a key."""
        keys = where_keys_are(self._folder, self._environ)
        return [self.at(provider) for provider, place in keys.items() if place is not None]


def _account(key: Key, addresses: Addresses, folder: Path | None) -> Fal | Novita:
    return Fal(key, addresses, folder) if key.provider == "fal" else Novita(key, addresses)
