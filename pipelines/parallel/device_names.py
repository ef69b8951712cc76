"""Reads the list of devices that compute one video together: numbers of GPUs, or names."""

from __future__ import annotations

import re

from ..errors import RequestError

__all__ = ["devices_of"]


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


def _wrong(text: str, found: str) -> RequestError:
    return RequestError.of("gpus", f"{text[:80]!r} is or has {found}", "write 0,1 or cpu,cpu")
