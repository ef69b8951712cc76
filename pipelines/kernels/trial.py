"""Runs kernels once to find out whether they work on a device, and remembers the result."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, ParamSpec, TypeVar

from ..device.late_torch import torch
from ..errors import is_out_of_memory

__all__ = ["DeviceFacts", "facts_of", "first_that_runs", "remembered"]

P = ParamSpec("P")
Name = TypeVar("Name", bound=str)


class DeviceFacts(NamedTuple):
    """The facts about a device that the choice of kernels depends on.

    kind: torch's name for the type of device. capability: compute capability of a CUDA device, else None.
    hip: whether CUDA means ROCm.
    """

    kind: str
    capability: tuple[int, int] | None = None
    hip: bool = False


def facts_of(device: torch.device) -> DeviceFacts:
    """Return the facts of this device, even if it is not the current device."""
    if device.type != "cuda":
        return DeviceFacts(device.type)
    hip = torch.version.hip is not None
    return DeviceFacts("cuda", None if hip else torch.cuda.get_device_capability(device), hip)


def first_that_runs(
    names: Iterable[Name], why_not: Callable[[Name], str | None]
) -> tuple[Name | None, Mapping[Name, str]]:
    """Return the first of `names` that runs (else None), and the reasons against those before it."""
    refused: dict[Name, str] = {}
    for name in names:
        reason = why_not(name)
        if reason is None:
            return name, refused
        refused[name] = reason
    return None, refused


def remembered(attempt: Callable[P, str | None]) -> Callable[P, str | None]:
    """Run `attempt` once for the same arguments, and return its error as the reason. None without an error.

    An out-of-memory error says nothing about the device, so it is not remembered.
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
            except Exception as error:  # compilers raise many types of errors
                reason = str(error).strip().partition("\n")[0] or type(error).__name__
                if is_out_of_memory(error):
                    return reason
            known[key] = reason
            return reason

    return why_not
