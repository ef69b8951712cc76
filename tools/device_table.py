"""docs/devices.md, written from the rules by which a device is used.

python -m tools.device_table
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from wan_duet.pipelines.device.precision import RULES, Abilities, native_precision, torch_dtype
from wan_duet.pipelines.kernels.attention import attention_candidates
from wan_duet.pipelines.kernels.choices import kernel_candidates
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
"""By kind of device, who says how much of it is free. Nobody does for the others."""


def _memory(abilities: Abilities) -> str:
    return MEMORY.get(abilities.kind, "unknown")


def _facts(abilities: Abilities) -> DeviceFacts:
    nvidia = abilities.kind == "cuda" and not abilities.arch
    return DeviceFacts(abilities.kind, abilities.capability if nvidia else None, hip=bool(abilities.arch))


def _kernels(abilities: Abilities) -> str:
    return ", ".join(kernel_candidates(_facts(abilities)))


def _attention(abilities: Abilities) -> str:
    dtype = torch_dtype(native_precision(abilities))
    return ", ".join((*attention_candidates(_facts(abilities), dtype), "sdpa"))


def _filled_by(abilities: Abilities) -> str:
    if abilities.kind == "cpu":
        return "a reader thread"
    return "the using thread" if streams_of(torch.device(abilities.kind)) is None else "a reader thread"


COLUMNS: dict[str, Callable[[Abilities], str]] = {
    "precision": native_precision,
    "kernels": _kernels,
    "attention": _attention,
    "weights filled by": _filled_by,
    "free memory": _memory,
}
"""What is chosen for a device, by heading: each asks the function that a run asks."""

_INTRODUCTION = f"""# Devices

This page is written from the rules; `{WRITE}` writes it again.

What `auto` stands for on a device, outside ComfyUI. The device itself is asked, and what it only emulates
does not count. Kernels and attention are tried on the device in this order, and the first one that runs is
taken. The last column is where the rule for the precision comes from.

"""
_AFTER = """
Inside ComfyUI its own functions answer, so that all its flags count: `unet_dtype` with `unet_manual_cast` for
the experts, `vae_dtype` for the VAE, `text_encoder_dtype` (with `unet_manual_cast` too, since core holds text
encoders in types that it does not compute in) for the text encoder and CLIP. Of several types that a device
has, the experts and the VAE take bfloat16 first. What is free there is what ComfyUI says, and what its models
would give back, without what it reserves for others (`--reserve-vram`, or its own default). For DirectML its
number is a placeholder, and counts as unknown.

A device of which nobody knows how much is free is used as little as can be: three blocks of an expert at a
time, decoding in tiles of 256 pixels, a sixth of the tokens at a time. Nothing is refused there, since nobody
knows what would be too much.
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
