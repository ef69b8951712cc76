"""The file of `wan-duet bench --submit-file`: what a card does, for the table of docs/performance.md.

It names no user, host, path or serial number.
"""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..device.memory import DeviceMemory
from ..files.on_disk import write_whole
from ..kernels.choices import Preferences
from ..plan.expectation import Rates
from ..version import VERSION
from .block_time import BlockTime, measure_block

__all__ = ["card_record", "write_card"]

CARD_FORMAT = 1


def write_card(file: Path, rates: Rates, memory: DeviceMemory) -> None:
    """Measure a block on the device of `memory`, where `rates` are from, and write the record."""
    block = measure_block(rates, memory.device, getattr(torch, rates.dtype))
    write_whole(file, json.dumps(card_record(rates, block, memory), indent=1) + "\n")


def card_record(rates: Rates, block: BlockTime, memory: DeviceMemory) -> dict[str, Any]:
    """Return JSON values. rates: FLOP/s, bytes/s and watts, as in `Rates`; block: seconds."""
    device = memory.device
    cuda = device.type == "cuda"
    choices = Preferences().resolve(device, getattr(torch, rates.dtype))
    return {
        "format": CARD_FORMAT,
        "device": rates.device,
        "memory_bytes": memory.total_bytes(),
        "capability": list(torch.cuda.get_device_capability(device)) if cuda else None,
        "cpu": {"capability": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads()},
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "wan_duet": VERSION,
        "attention": choices.attention,
        "kernels": choices.kernels,
        "rates": asdict(rates),
        "block": asdict(block),
    }
