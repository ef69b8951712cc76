"""Types of arguments that several commands have: counts, and amounts of money or power."""

from __future__ import annotations

import argparse

__all__ = ["amount_of_money", "count", "power"]


def count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= 1_000_000):
        raise argparse.ArgumentTypeError(f"{text!r} is not a count; give 1 to 1000000")
    return int(text)


def amount_of_money(text: str) -> float:
    """Return US dollars above 0."""
    return _above_zero(text, "an amount in US dollars")


def power(text: str) -> float:
    """Return watts above 0."""
    return _above_zero(text, "a power in watts")


def _above_zero(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}; give one above 0")
    return value
