"""Turns one request for several seeds into one request per seed."""

from __future__ import annotations

from .base import WanRequest
from .field_rows import LOCAL
from .parse import parse
from .seeds import seed_of

__all__ = ["one_per_seed"]


def one_per_seed(request: WanRequest) -> list[WanRequest]:
    """Return `local.count` requests without a count: with the seed of the request, the next one, and so on.

    Without a seed none of them has one, and each run draws its own. Raises RequestError for a seed above the
    largest.
    """
    count = 1 if request.local is None else request.local.count
    if count == 1:
        return [request]
    values, first = request.document(), seed_of(request)
    values[LOCAL] = {name: value for name, value in values[LOCAL].items() if name != "count"}
    if first is None:
        return [parse(request.kind, values)] * count
    return [parse(request.kind, {**values, "seed": first + number}) for number in range(count)]
