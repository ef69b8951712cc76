"""`wan-duet keys`: store, test and remove the keys of providers.

No command prints a key or takes one as an argument: shells log arguments and `ps` shows them.
"""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from collections.abc import Callable
from typing import Any

from .subcommands import add_command, add_folder, add_group, folder_of

__all__ = ["add_keys_command"]


def add_keys_command(commands: Any) -> None:
    """Add `keys` to the commands of an argument parser (what `add_subparsers` returned)."""
    from ..remote.keys import PROVIDERS

    text = "store the keys of fal and Novita in a file that only you can read"
    verbs = add_group(commands, "keys", text)

    def verb(name: str, function: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        added = add_command(verbs, name, function, text)
        add_folder(added, "the keys")
        return added

    verb(
        "list",
        _list,
        "list which providers have a key, and whether it comes from the environment or the file",
    )
    for name, function, text in (
        ("set", _set, "ask for a key, or read it from stdin, and store it"),
        ("forget", _forget, "remove a key from the file"),
        ("test", _test, "ask a provider whether it accepts the key; costs nothing"),
    ):
        verb(name, function, text).add_argument("provider", choices=list(PROVIDERS))


def _list(options: argparse.Namespace) -> int:
    from ..remote.keys import PROVIDERS, where_keys_are

    places = where_keys_are(folder_of(options))
    if options.json:
        print(json.dumps(places))
        return 0
    for provider, place in places.items():
        print(f"{provider:<6}  {'no key' if place is None else f'from the {place}'}  ({PROVIDERS[provider]})")
    return 0


def _set(options: argparse.Namespace) -> int:
    from ..remote.keys import keep_key

    asked = f"Key of {options.provider} (not shown): "
    keep_key(
        options.provider,
        getpass.getpass(asked) if sys.stdin.isatty() else sys.stdin.readline(),
        folder_of(options),
    )
    return _list(options)


def _forget(options: argparse.Namespace) -> int:
    from ..remote.keys import forget_key

    forget_key(options.provider, folder_of(options))
    return _list(options)


def _test(options: argparse.Namespace) -> int:
    """Returns 1 when the provider rejects the key."""
    import asyncio

    from ..remote.accounts import account_at

    async def accepted() -> bool:
        account = account_at(options.provider, folder_of(options))
        try:
            return await account.accepts_key()
        finally:
            await account.close()

    taken = asyncio.run(accepted())
    answer = f"{options.provider} takes the key" if taken else f"{options.provider} does not take the key"
    print(json.dumps({"accepted": taken}) if options.json else answer)
    return 0 if taken else 1
