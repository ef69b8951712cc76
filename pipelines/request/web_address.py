"""Which web addresses a request may name."""

from __future__ import annotations

__all__ = ["is_https", "why_medium_not_sent"]


def is_https(address: str) -> bool:
    """Return whether `address` is one that providers and this program fetch from."""
    return address[:8].lower() == "https://"


def why_medium_not_sent(value: str) -> tuple[str, str] | None:
    """Return why no provider fetches an input from `value`, and what to give instead.

    None for https, and for what is no web address: a file or a data URI.
    """
    if "://" not in value or is_https(value):
        return None
    return "not an https address", "give https, or save the file and give its name"
