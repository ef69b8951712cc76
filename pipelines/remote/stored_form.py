"""The form in which a payload is stored, and a fingerprint to compare payloads.

Journal, receipts and logs live longer than a request. So they contain neither the contents of files nor
addresses that give access to a file.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

__all__ = ["fingerprint", "stored_form"]

# With its type, because a prompt may begin with "data:".
_DATA_URI = re.compile(r"data:[\w.+-]+/[\w.+-]+(?:;[^,]*)?,", re.IGNORECASE)


def stored_form(value: Any) -> Any:
    """Return a JSON value without contents and signatures.

    Each data URI becomes "sha256:..." of its content. Each address with a query, fragment or user becomes its
    bare form and the hash of the whole. Equal values have equal forms, and the form of a form is itself.
    """
    if isinstance(value, Mapping):
        return {key: stored_form(item) for key, item in value.items()}
    if isinstance(value, str):
        return _written_text(value)
    if isinstance(value, Sequence):
        return [stored_form(item) for item in value]
    return value


def fingerprint(value: Any) -> str:
    """Return the sha256 in hex of the written form of a JSON value. The order of keys does not matter."""
    text = json.dumps(stored_form(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _written_text(text: str) -> str:
    if _DATA_URI.match(text):
        return f"sha256:{hashlib.sha256(_data_of(text)).hexdigest()}"
    if not text[:8].lower().startswith(("http://", "https://")):
        return text
    try:
        parts = urlsplit(text)
        place = parts.hostname if parts.port is None else f"{parts.hostname}:{parts.port}"
    except ValueError:
        return f"address sha256:{_hash(text)}"
    if not (parts.query or parts.fragment or parts.username or parts.password):
        return text
    return f"{parts.scheme}://{place}{parts.path} sha256:{_hash(text)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _data_of(uri: str) -> bytes:
    """Return the content of a data URI (RFC 2397), or the text itself if it cannot be decoded."""
    head, _, data = uri.partition(",")
    try:
        content = unquote_to_bytes(data)
        return base64.b64decode(content, validate=True) if head.lower().endswith(";base64") else content
    except (binascii.Error, ValueError):
        return uri.encode("utf-8", "surrogatepass")
