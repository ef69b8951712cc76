"""Writes docs/devices.md from the rules by which a device is used.

python -m tools.device_table
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from wan_duet.pipelines.device.precision import RULES, DeviceCapabilities, native_precision, torch_dtype
from wan_duet.pipelines.kernels.attention import attention_candidates
from wan_duet.pipelines.kernels.kernel_trials import kernel_candidates
from wan_duet.pipelines.kernels.trial import DeviceFacts
from wan_duet.pipelines.weights.streams import streams_of

__all__ = ["COLUMNS", "MEMORY", "PAGE", "WRITE", "devices_page"]

PAGE = Path(__file__).resolve().parents[1] / "docs" / "devices.md"
WRITE = "python -m tools.device_table"

MEMORY = {
    "cpu": "psutil, and the limits of control groups (versions 1 and 2)",
    "cuda": "`torch.cuda.mem_get_info`, and `set_per_process_memory_fraction`",
    "mps": "`torch.mps.recommended_max_memory`, and what is free of main memory",
    "xpu": "`torch.xpu.mem_get_info`, from torch 2.6 on",
}
"""Source of the free memory, per kind of device. It is unknown for the others."""


def _memory(capabilities: DeviceCapabilities) -> str:
    return MEMORY.get(capabilities.kind, "unknown")


def _facts(capabilities: DeviceCapabilities) -> DeviceFacts:
    nvidia = capabilities.kind == "cuda" and not capabilities.arch
    return DeviceFacts(
        capabilities.kind, capabilities.capability if nvidia else None, hip=bool(capabilities.arch)
    )


def _kernels(capabilities: DeviceCapabilities) -> str:
    return ", ".join(kernel_candidates(_facts(capabilities)))


def _attention(capabilities: DeviceCapabilities) -> str:
    dtype = torch_dtype(native_precision(capabilities))
    return ", ".join((*attention_candidates(_facts(capabilities), dtype), "sdpa"))


def _filled_by(capabilities: DeviceCapabilities) -> str:
    if capabilities.kind == "cpu":
        return "a second thread"
    return (
        "the computing thread" if streams_of(torch.device(capabilities.kind)) is None else "a second thread"
    )


COLUMNS: dict[str, Callable[[DeviceCapabilities], str]] = {
    "precision": native_precision,
    "kernels": _kernels,
    "attention": _attention,
    "weights copied by": _filled_by,
    "free memory": _memory,
}
"""What is chosen for a device, by heading: each asks the function that a run asks."""

_INTRODUCTION = f"""# Devices

`{WRITE}` generates this page from the rules in the code.

The table says what `auto` chooses on a device outside ComfyUI. The device reports its own capabilities;
emulated ones do not count. Kernels and attention are tried on the device in the order shown, and the first
that runs is used. The last column is the source of the precision rule.

"""
_AFTER = """
Inside ComfyUI, ComfyUI's own functions choose the precision, so all its flags count: `unet_dtype` with
`unet_manual_cast` for the experts, `vae_dtype` for the VAE, and `text_encoder_dtype` with `unet_manual_cast`
for the text encoder and CLIP, because core stores text encoders in types that it does not compute in. If a
device supports several types, the experts and the VAE prefer bfloat16.

With ComfyUI's `--cpu-vae` the VAE runs on the CPU, and its memory is estimated there. The VAE tries kernels
in its own precision. The receipt records its device, precision and kernels under `vae` of `model`.

Free memory inside ComfyUI is what ComfyUI reports as free, plus the memory of its models that it can unload,
minus what it reserves for other programs (`--reserve-vram`, or its default). Its number for DirectML is a
placeholder and counts as unknown.

Where free memory is unknown, the least is used: three blocks of an expert at a time, decoding in tiles of 256
pixels, and a sixth of the tokens at a time. Nothing is refused there.
"""


def devices_page() -> str:
    """The whole page."""
    headings = ["device", *COLUMNS, "source"]
    rows = [headings, ["---"] * len(headings)]
    rows += [
        [rule.device, *(choose(rule.example) for choose in COLUMNS.values()), rule.source] for rule in RULES
    ]
    return _INTRODUCTION + "".join(f"| {' | '.join(row)} |\n" for row in rows) + _AFTER


if __name__ == "__main__":
    PAGE.write_text(devices_page(), encoding="utf-8")
