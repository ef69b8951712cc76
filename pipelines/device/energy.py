"""Reads how much energy a GPU has used."""

from __future__ import annotations

import importlib
from typing import Any

import torch

__all__ = ["joules_used"]


def joules_used(device: torch.device) -> float | None:
    """Return the joules that an NVIDIA GPU has used since its driver was loaded, by all processes together.

    None for another device, without the package nvidia-ml-py, and for a GPU older than Volta, which does not
    count them (`nvmlDeviceGetTotalEnergyConsumption`, in millijoules).
    """
    if device.type != "cuda" or torch.version.cuda is None:
        return None
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        return float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
    except nvml.NVMLError:
        return None
