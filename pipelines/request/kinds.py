"""The kinds of request, each mirroring one contract of a provider, and what can be asked about them."""

from __future__ import annotations

from typing import Any

from ..errors import RequestError
from .a14b_image import WanI2IRequest, WanLoRAT2IRequest, WanT2IRequest
from .a14b_video import (
    WanI2VRequest,
    WanI2VRequest_llms_121,
    WanLoRAI2VRequest,
    WanLoRAT2VRequest,
    WanLoRAT2VRequest_llms_161,
    WanS2VRequest,
    WanT2VRequest,
    WanTurboI2VRequest,
    WanTurboT2VRequest,
    WanV2VRequest,
)
from .base import WanRequest
from .legacy import Wan22LoRAT2VRequest, Wan22T2VRequest
from .novita import NovitaWan21I2VRequest, NovitaWan21T2VRequest
from .novita22 import NovitaWan22I2VRequest, NovitaWan22T2VRequest
from .rows import FieldRow, closest, rows
from .small import (
    WanDistillT2VRequest,
    WanSmallFastVideoT2VRequest,
    WanSmallI2VRequest,
    WanSmallT2IRequest,
    WanSmallT2VRequest,
)

__all__ = [
    "KINDS",
    "SENDABLE",
    "class_of",
    "describe_kinds",
    "field_table",
    "json_schema",
    "kind_of",
    "kinds_of",
]

# The first kind of a task is the plain one.
KINDS: dict[str, type[WanRequest]] = {
    cls.kind: cls
    for cls in (
        WanT2VRequest,
        WanLoRAT2VRequest,
        WanLoRAT2VRequest_llms_161,
        WanI2VRequest,
        WanI2VRequest_llms_121,
        WanLoRAI2VRequest,
        WanT2IRequest,
        WanLoRAT2IRequest,
        WanI2IRequest,
        WanV2VRequest,
        WanTurboT2VRequest,
        WanTurboI2VRequest,
        WanS2VRequest,
        WanSmallT2VRequest,
        WanSmallI2VRequest,
        WanSmallT2IRequest,
        WanDistillT2VRequest,
        WanSmallFastVideoT2VRequest,
        Wan22T2VRequest,
        Wan22LoRAT2VRequest,
        NovitaWan21T2VRequest,
    )
}

# What a provider may be sent: the kinds, and what other kinds are put into.
SENDABLE: tuple[type[WanRequest], ...] = (
    *KINDS.values(),
    NovitaWan21I2VRequest,
    NovitaWan22T2VRequest,
    NovitaWan22I2VRequest,
)


def class_of(kind: str) -> type[WanRequest]:
    """The request class of a kind. RequestError on `kind` when there is no such kind."""
    if kind in KINDS:
        return KINDS[kind]
    near = closest(kind, KINDS)
    fix = f"did you mean {near}?" if near else "known kinds: " + ", ".join(KINDS)
    raise RequestError.of("kind", f"no kind is called {kind[:60]!r}", fix)


def kind_of(request: WanRequest) -> str:
    return request.kind


def kinds_of(task: str) -> tuple[type[WanRequest], ...]:
    """The kinds that share a node, the plain one first. RequestError on `task` when there is no such task."""
    found = tuple(cls for cls in KINDS.values() if cls.task == task)
    if not found:
        known = ", ".join(dict.fromkeys(cls.task for cls in KINDS.values()))
        raise RequestError.of("task", f"no task is called {task[:60]!r}", f"known tasks: {known}")
    return found


def describe_kinds() -> list[dict[str, str]]:
    """One entry per kind, for `wan-duet kinds`."""
    keys = ("kind", "contract", "task", "provider", "endpoint", "title")
    return [{key: getattr(cls, key) for key in keys} for cls in KINDS.values()]


def json_schema(kind: str) -> dict[str, Any]:
    """The JSON Schema of a kind, with the newest ranges; `x-limits` lists all with date and source."""
    return class_of(kind).model_json_schema()


def field_table(kind: str) -> list[FieldRow]:
    """The fields of a kind, in order."""
    return rows(class_of(kind))
