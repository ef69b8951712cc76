"""Joins a request with the media of its fields. Nodes pass this pair on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from ..errors import Problem, RequestError
from .base import WanRequest
from .field_rows import MEDIA, MEDIA_LISTS
from .kinds import class_of, kinds_of
from .parse import parse, request_for

__all__ = ["Medium", "RequestWithMedia", "bind", "bind_task"]


class Medium(Protocol):
    """An image, a video or audio, or a batch of `size` of them.

    sha256: of its bytes, in hex, stands for it in the request.
    """

    @property
    def sha256(self) -> str: ...

    @property
    def size(self) -> int: ...

    def each(self) -> Sequence[Medium]:
        """Return the media of a batch, or this one."""


class RequestWithMedia(NamedTuple):
    """A request, and {field: medium} of the media from sockets.

    Such a field of the request has the value "sha256:...", so that receipts and journals identify the medium.
    One of a list is called as ref_image_urls[0].
    Before a request is sent, the address of the upload replaces it.
    """

    request: WanRequest
    media: Mapping[str, Medium] = MappingProxyType({})


def bind(kind: str, values: Mapping[str, Any], media: Mapping[str, Medium | None]) -> RequestWithMedia:
    """Make a request of `kind` from values and media. A medium comes as a value (URL, data URI, file) or from
    a socket.

    Empty text and None count as unset. Raises RequestError for a field with both, for a required field with
    neither, and for a medium that the kind has no field for.
    """
    fields, connected = _joined(set(class_of(kind).model_fields), values, media)
    return RequestWithMedia(parse(kind, fields), connected)


def bind_task(task: str, values: Mapping[str, Any], media: Mapping[str, Medium | None]) -> RequestWithMedia:
    """As `bind`, but choose the kind as `request_for` does."""
    known = {name for cls in kinds_of(task) for name in cls.model_fields}
    fields, connected = _joined(known, values, media)
    return RequestWithMedia(request_for(task, fields), connected)


def _joined(
    known: set[str], values: Mapping[str, Any], media: Mapping[str, Medium | None]
) -> tuple[dict[str, Any], Mapping[str, Medium]]:
    """Return the values, with each medium as its hash, and the media."""
    given = {name: value for name, value in values.items() if name not in MEDIA or value not in (None, "")}
    connected = _numbered({name: medium for name, medium in media.items() if medium is not None})
    fields = dict.fromkeys(name.partition("[")[0] for name in connected)
    inputs = known & {*MEDIA, *MEDIA_LISTS}
    problems = [
        Problem(name, "set as text and from a socket", "use one of the two")
        for name in fields
        if name in given
    ]
    problems += [
        Problem(name, "there is no such input", f"connect one of {', '.join(sorted(inputs))}")
        for name in fields
        if name not in inputs
    ]
    if problems:
        raise RequestError(problems)
    hashes: dict[str, Any] = {name: [] for name in fields if name in MEDIA_LISTS}
    for name, medium in connected.items():
        text = f"sha256:{medium.sha256}"
        if name in MEDIA:
            hashes[name] = text
        else:
            hashes[name.partition("[")[0]].append(text)
    return {**given, **hashes}, MappingProxyType(connected)


def _numbered(media: Mapping[str, Medium]) -> dict[str, Medium]:
    """Return the media with the entries of each list numbered from 0: a socket may be left open."""
    numbered: dict[str, Medium] = {}
    counts: Counter[str] = Counter()
    for name, medium in media.items():
        field, bracket, _ = name.partition("[")
        numbered[f"{field}[{counts[field]}]" if bracket else name] = medium
        counts[field] += 1
    return numbered
