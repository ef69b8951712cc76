"""Removes secrets from a text: keys, and addresses that give access to a file."""

from __future__ import annotations

import base64
import re
from urllib.parse import quote, quote_plus

from ..download.address import shown

__all__ = ["Redaction", "one_line"]

_SHORTEST = 6  # characters; a shorter part of a key is a word that texts contain anyway
_ADDRESS = re.compile(r"https?://[^\s\"'<>()]+")
_MARK = "[key]"


class Redaction:
    """Removes secrets in every encoding in which a provider, a proxy or a library may repeat them."""

    def __init__(self, *secrets: str) -> None:
        parts = {part for secret in secrets for part in (secret, *secret.split(":"))}
        spelled = {
            form
            for part in parts
            if len(part) >= _SHORTEST
            for form in (
                part,
                quote(part, safe=""),
                quote_plus(part),
                _base64(part),
                part.replace("/", "\\/"),
            )
        }
        self._spelled = tuple(sorted(spelled, key=lambda form: (-len(form), form)))  # the whole before a half

    def __repr__(self) -> str:
        return "Redaction()"

    def text(self, text: str) -> str:
        for form in self._spelled:
            text = text.replace(form, _MARK)
        return text


def one_line(text: str, most: int = 300) -> str:
    """Return a text from outside for a message or log.

    It is one line, without control characters and signatures, and short.
    """
    bare = _ADDRESS.sub(lambda found: shown(found[0]), text)
    line = " ".join("".join(c if c.isprintable() else " " for c in bare).split())
    return line if len(line) <= most else f"{line[: most - 3]}..."


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode().rstrip("=")
