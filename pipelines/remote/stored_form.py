"""A payload as it may be written down, and what tells two payloads apart.

Journal, receipts and logs last longer than a request should: contents of files do not belong there, nor
addresses that open a file for whoever has them.
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

_DATA_URI = re.compile(
    r"data:[\w.+-]+/[\w.+-]+(?:;[^,]*)?,", re.IGNORECASE
)  # a prompt may begin with "data:"


def stored_form(value: Any) -> Any:
    """JSON `value` with each data URI replaced by "sha256:..." of its content, and each address that carries
    a query, a fragment or a user by its bare form and the hash of the whole.

    Equal values have equal forms, and a form is its own form.
    """
    if isinstance(value, Mapping):
        return {key: stored_form(item) for key, item in value.items()}
    if isinstance(value, str):
        return _written_text(value)
    if isinstance(value, Sequence):
        return [stored_form(item) for item in value]
    return value


def fingerprint(value: Any) -> str:
    """sha256 in hex of the written form of JSON `value`; the order of keys does not count."""
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
    """The content of a data URI (RFC 2397); one that cannot be read counts as its own text."""
    head, _, data = uri.partition(",")
    try:
        content = unquote_to_bytes(data)
        return base64.b64decode(content, validate=True) if head.lower().endswith(";base64") else content
    except (binascii.Error, ValueError):
        return uri.encode("utf-8", "surrogatepass")
