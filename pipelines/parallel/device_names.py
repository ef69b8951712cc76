"""Reads the list of devices that compute one video together: numbers of GPUs, or names."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import RequestError

__all__ = ["devices_of", "require_devices"]


def devices_of(text: str) -> tuple[str, ...]:
    """Return the names of the devices in "0,1" or "cpu,cpu". Raises RequestError on `gpus` for others."""
    devices = tuple(f"cuda:{name}" if name.isdecimal() else name for name in text.replace(" ", "").split(","))
    if not all(re.fullmatch(r"[a-z]+(:\d+)?", device) for device in devices):
        raise _wrong(text, "no list of devices")
    if len({device.partition(":")[0] for device in devices}) > 1:
        raise _wrong(text, "devices of several types")
    twice = next((device for device in devices if device != "cpu" and devices.count(device) > 1), None)
    if twice is not None:
        raise _wrong(text, f"{twice} twice")
    return devices


def require_devices(devices: Sequence[str]) -> None:
    """Raise RequestError on `gpus` for a GPU that this machine does not have."""
    import torch

    count = torch.cuda.device_count()
    for device in devices:
        kind, _, number = device.partition(":")
        if kind == "cuda" and int(number or 0) >= count:
            there = (
                f"the numbers of its GPUs are 0 to {count - 1}" if count else "it has none that torch can use"
            )
            raise RequestError.of("gpus", f"{device} is not on this machine", f"{there}; or write cpu,cpu")


def _wrong(text: str, found: str) -> RequestError:
    return RequestError.of("gpus", f"{text[:80]!r} is or has {found}", "write 0,1 or cpu,cpu")
