"""Turns a request with batches of images or sounds into one request for each of them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ..errors import RequestError
from .parse import parse
from .report import Finding, problems_of
from .request_with_media import Medium, RequestWithMedia

__all__ = ["bought_one_by_one", "one_per_medium", "remarks_on_batches"]


def one_per_medium(bound: RequestWithMedia) -> list[RequestWithMedia]:
    """Return a request for each medium of a batch, in its order. A single medium is in all of them.

    Raises RequestError for batches of different sizes.
    """
    if problems := problems_of(remarks_on_batches(bound)):
        raise RequestError(problems)
    each = {field: medium.each() for field, medium in bound.media.items() if medium.size > 1}
    if not each:
        return [bound]
    return [
        _holding(bound, dict(zip(each, parts, strict=True))) for parts in zip(*each.values(), strict=True)
    ]


def remarks_on_batches(bound: RequestWithMedia) -> list[Finding]:
    """Say what a run on this machine makes of each batch."""
    sizes = _sizes(bound)
    if len(set(sizes.values())) > 1:
        reason = "batches of different sizes; give as many of each, or one"
        return [Finding(field, "impossible", size, None, reason) for field, size in sizes.items()]
    reason = "{} in a batch: one result of each, one after another"
    return [Finding(field, "warning", size, size, reason.format(size)) for field, size in sizes.items()]


def bought_one_by_one(bound: RequestWithMedia) -> list[Finding]:
    """Refuse each batch at a provider, where every result has its own price."""
    reason = (
        "{} in a batch would be {} purchases; connect one, or put Rebatch Images with batch_size 1 in "
        "between: each image is then bought by itself"
    )
    return [
        Finding(field, "impossible", size, None, reason.format(size, size))
        for field, size in _sizes(bound).items()
    ]


def _sizes(bound: RequestWithMedia) -> dict[str, int]:
    """Return {field: number of media} of the batches."""
    return {field: medium.size for field, medium in bound.media.items() if medium.size > 1}


def _holding(bound: RequestWithMedia, media: Mapping[str, Medium]) -> RequestWithMedia:
    """Return the request with these media in place of its batches."""
    hashes = {field: f"sha256:{medium.sha256}" for field, medium in media.items()}
    request = parse(bound.request.kind, {**bound.request.document(), **hashes})
    return RequestWithMedia(request, MappingProxyType({**bound.media, **media}))
