"""The keys of the providers: from the environment, or from a file that only its owner can read.

A key goes from here into the Authorization header and nowhere else: into no workflow, log, receipt or
journal, and not back to the browser.
"""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from ..errors import KeyProblemError
from ..files.private_file import read_private, write_private

__all__ = ["PROVIDERS", "Key", "find_key", "forget_key", "keep_key", "where_keys_are"]

KeySource = Literal["environment", "file"]
PROVIDERS: Mapping[str, str] = {"fal": "FAL_KEY", "novita": "NOVITA_API_KEY"}  # {provider: its variable}
_PAGES = {"fal": "https://fal.ai/dashboard/keys", "novita": "https://novita.ai/settings/key-management"}
_FILE = "keys.json"
_LONGEST = 500  # characters


class Key:
    """The key of one provider. Neither `repr` nor pickling nor an exception shows it."""

    __slots__ = ("_text", "provider")

    def __init__(self, provider: str, text: str) -> None:
        self.provider = provider
        self._text = _checked(provider, text)

    @property
    def account(self) -> str:
        """Eight hex digits that identify the key. The key cannot be computed from them."""
        return hmac.new(b"wan-duet account", self._text.encode(), "sha256").hexdigest()[:8]

    def reveal(self) -> str:
        """Return the key itself, for the header of a request."""
        return self._text

    def __repr__(self) -> str:
        return f"Key({self.provider}, account {self.account})"

    def __reduce__(self) -> str:
        raise TypeError("a key must not be written anywhere")


def find_key(provider: str, folder: Path | None, environ: Mapping[str, str] = os.environ) -> Key:
    """The key of `provider`: of the environment if it has one, else of the file in `folder`.

    Raises KeyProblemError when there is none, when others can read the file, and for text that is no key.
    """
    text = _in_environment(provider, environ)
    if text is None and folder is not None:
        text = _read(folder).get(provider)
    if text is None:
        raise KeyProblemError(
            f"{provider}: no key; create one at {_PAGES[provider]} and set {PROVIDERS[provider]} in the "
            "environment of ComfyUI, or enter it in the settings of Wan Duet"
        )
    return Key(provider, text)


def where_keys_are(folder: Path, environ: Mapping[str, str] = os.environ) -> dict[str, KeySource | None]:
    """{provider: "environment", "file", or None where there is none}: all that a settings page may know."""
    kept = _read(folder)
    return {
        provider: "environment"
        if _in_environment(provider, environ)
        else "file"
        if provider in kept
        else None
        for provider in PROVIDERS
    }


def keep_key(provider: str, text: str, folder: Path) -> None:
    """Write a key into `folder`, for its owner only. Raises KeyProblemError for text that is no key."""
    _write(folder, {**_read(folder), provider: _checked(provider, text)})


def forget_key(provider: str, folder: Path) -> None:
    """Delete a key from `folder`."""
    kept = _read(folder)
    if kept.pop(provider, None) is not None:
        _write(folder, kept)


def _in_environment(provider: str, environ: Mapping[str, str]) -> str | None:
    if text := environ.get(PROVIDERS[provider], "").strip():
        return text
    halves = (environ.get("FAL_KEY_ID", "").strip(), environ.get("FAL_KEY_SECRET", "").strip())
    return ":".join(halves) if provider == "fal" and all(halves) else None


def _checked(provider: str, text: str) -> str:
    """Return the key without surrounding spaces. Raises KeyProblemError if it cannot be in a header."""
    text = text.strip()
    if not text:
        raise KeyProblemError(f"{provider}: the key is empty; copy it again from {_PAGES[provider]}")
    if len(text) > _LONGEST or not all("!" <= character <= "~" for character in text):
        raise KeyProblemError(
            f"{provider}: the key contains characters that a key cannot have, or is too long; copy it "
            f"again from {_PAGES[provider]}"
        )
    return text


def _read(folder: Path) -> dict[str, str]:
    file = folder / _FILE
    try:
        content = json.loads(read_private(file))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError):
        content = None  # its text may hold a key: neither it nor the error goes into a message
    if not isinstance(content, dict) or not all(isinstance(text, str) for text in content.values()):
        raise KeyProblemError(f"{file}: damaged; delete it and enter the keys again")
    return {provider: text for provider, text in content.items() if provider in PROVIDERS}


def _write(folder: Path, keys: Mapping[str, str]) -> None:
    write_private(folder / _FILE, json.dumps(dict(keys)), "the key cannot be saved there")
