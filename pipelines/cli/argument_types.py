"""Types of arguments that several commands have: counts and amounts of money."""

from __future__ import annotations

import argparse

__all__ = ["amount_of_money", "count"]


def count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= 1_000_000):
        raise argparse.ArgumentTypeError(f"{text!r} is not a count; give 1 to 1000000")
    return int(text)


def amount_of_money(text: str) -> float:
    """Return US dollars above 0."""
    try:
        usd = float(text)
    except ValueError:
        usd = -1.0
    if not 0 < usd < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount in US dollars; give one above 0")
    return usd
