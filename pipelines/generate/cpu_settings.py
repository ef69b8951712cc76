"""Records and repeats the settings of a CPU that decide how its float sums are rounded.

torch splits an operation by the number of threads, and has kernels for each instruction set
(`ATEN_CPU_CAPABILITY`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["changed_settings", "cpu_settings", "threads_of"]


def cpu_settings() -> dict[str, Any]:
    """Return the number of threads and the instruction set that torch computes with."""
    return {"threads": torch.get_num_threads(), "capability": torch.backends.cpu.get_cpu_capability()}


@contextmanager
def threads_of(recorded: Mapping[str, Any]) -> Iterator[None]:
    """Compute with the recorded number of threads. Older receipts have none, and change nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(recorded.get("threads", before))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def changed_settings(recorded: Mapping[str, Any]) -> list[str]:
    """Describe how the settings here differ from the recorded ones."""
    return [
        f"CPU {name} {recorded[name]} there, {value} here"
        for name, value in cpu_settings().items()
        if name in recorded and recorded[name] != value
    ]
