"""Whether something runs on a device: what is known of the device, and how an attempt is remembered."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, ParamSpec, TypeVar

import torch

from ..errors import is_out_of_memory

__all__ = ["DeviceFacts", "facts_of", "first_that_runs", "remembered"]

P = ParamSpec("P")
Name = TypeVar("Name", bound=str)


class DeviceFacts(NamedTuple):
    """All of a device that a choice of kernels goes by.

    kind: as torch names it. capability: the compute capability of a CUDA device, None of another.
    hip: whether CUDA means ROCm.
    """

    kind: str
    capability: tuple[int, int] | None = None
    hip: bool = False


def facts_of(device: torch.device) -> DeviceFacts:
    """Of this device, whichever is the current one."""
    if device.type != "cuda":
        return DeviceFacts(device.type)
    hip = torch.version.hip is not None
    return DeviceFacts("cuda", None if hip else torch.cuda.get_device_capability(device), hip)


def first_that_runs(
    names: Iterable[Name], why_not: Callable[[Name], str | None]
) -> tuple[Name | None, Mapping[Name, str]]:
    """The first of `names` that has nothing against it, else None, and what each before it has."""
    refused: dict[Name, str] = {}
    for name in names:
        reason = why_not(name)
        if reason is None:
            return name, refused
        refused[name] = reason
    return None, refused


def remembered(attempt: Callable[P, str | None]) -> Callable[P, str | None]:
    """`attempt` made once for the same arguments, where an error is its reason.

    An out-of-memory error says nothing about the device, so the next call makes the attempt again.
    """
    known: dict[object, str | None] = {}
    lock = threading.Lock()

    def why_not(*arguments: P.args, **options: P.kwargs) -> str | None:
        key = (arguments, tuple(sorted(options.items())))
        with lock:
            if key in known:
                return known[key]
            try:
                reason = attempt(*arguments, **options)
            except Exception as error:  # a compiler may raise anything
                reason = str(error).strip().partition("\n")[0] or type(error).__name__
                if is_out_of_memory(error):
                    return reason
            known[key] = reason
            return reason

    return why_not
