"""Chooses the dtype for `auto`, by a table of rules over the capabilities of the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

__all__ = [
    "PRECISIONS",
    "RULES",
    "DeviceCapabilities",
    "Fixed",
    "Part",
    "Precision",
    "Rule",
    "capabilities_of",
    "native_precision",
    "torch_dtype",
]

Fixed = Literal["fp32", "bf16", "fp16"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "stored"]
"""`stored` multiplies on the numbers of quantised files where the device can, else computes as `auto`."""
PRECISIONS: tuple[Precision, ...] = ("auto", "fp32", "bf16", "fp16", "stored")

Part = Literal["transformer", "vae", "text_encoder"]
"""The networks for which ComfyUI has a rule each; CLIP's image encoder follows `text_encoder`, as in core."""


@dataclass(frozen=True)
class DeviceCapabilities:
    """The capabilities that the choice of a dtype depends on.

    kind:       torch's name for the type of device.
    capability: the compute capability of an NVIDIA GPU; (0, 0) for other devices.
    arch:       the architecture of an AMD GPU, such as gfx1100; empty for other devices.
    bf16:       whether MPS or XPU report support for bfloat16.
    """

    kind: str
    capability: tuple[int, int] = (0, 0)
    arch: str = ""
    bf16: bool = False


@dataclass(frozen=True)
class Rule:
    """The precision of the devices that `applies` accepts.

    device:  description of these devices.
    source:  of the rule.
    example: a device that this rule decides.
    """

    device: str
    applies: Callable[[DeviceCapabilities], bool]
    precision: Fixed
    source: str
    example: DeviceCapabilities


_COMFYUI = "`should_use_bf16` in ComfyUI's model_management.py"
_AMD = "`AMD_RDNA2_AND_OLDER_ARCH` in ComfyUI's model_management.py"
_NVIDIA = "`torch.cuda.is_bf16_supported(including_emulation=False)`"
_INTEL = "`has_bfloat16_conversions` of `torch.xpu.get_device_properties`"
# How the names of GCN, RDNA 1 and RDNA 2 begin. gfx908, gfx90a and gfx94x are CDNA, which has bfloat16.
_OLD_AMD = ("gfx8", "gfx900", "gfx902", "gfx904", "gfx906", "gfx909", "gfx90c", "gfx101", "gfx103")

RULES = (
    Rule("CPU", lambda it: it.kind == "cpu", "fp32", _COMFYUI, DeviceCapabilities("cpu")),
    Rule(
        "AMD card, RDNA 2 or older",
        lambda it: it.kind == "cuda" and it.arch.startswith(_OLD_AMD),
        "fp16",
        _AMD,
        DeviceCapabilities("cuda", (10, 3), "gfx1030"),
    ),
    Rule(
        "AMD card, newer",
        lambda it: it.kind == "cuda" and it.arch != "",
        "bf16",
        _AMD,
        DeviceCapabilities("cuda", (11, 0), "gfx1100"),
    ),
    Rule(
        "NVIDIA card, compute capability 8.0 or higher",
        lambda it: it.kind == "cuda" and it.capability >= (8, 0),
        "bf16",
        _NVIDIA,
        DeviceCapabilities("cuda", (8, 6)),
    ),
    Rule(
        "NVIDIA card, compute capability below 8.0",
        lambda it: it.kind == "cuda",
        "fp16",
        _NVIDIA,
        DeviceCapabilities("cuda", (7, 5)),
    ),
    Rule(
        "Apple GPU, macOS 14 or newer",
        lambda it: it.kind == "mps" and it.bf16,
        "bf16",
        _COMFYUI,
        DeviceCapabilities("mps", bf16=True),
    ),
    Rule("Apple GPU, older macOS", lambda it: it.kind == "mps", "fp16", _COMFYUI, DeviceCapabilities("mps")),
    Rule(
        "Intel GPU with bfloat16",
        lambda it: it.kind == "xpu" and it.bf16,
        "bf16",
        _INTEL,
        DeviceCapabilities("xpu", bf16=True),
    ),
    Rule(
        "Intel GPU without bfloat16", lambda it: it.kind == "xpu", "fp16", _INTEL, DeviceCapabilities("xpu")
    ),
    Rule(
        "DirectML",
        lambda it: it.kind == "privateuseone",
        "fp16",
        _COMFYUI,
        DeviceCapabilities("privateuseone"),
    ),
    Rule("any other", lambda _: True, "fp32", "every device computes in it", DeviceCapabilities("hpu")),
)
"""The first that applies decides."""


def native_precision(capabilities: DeviceCapabilities) -> Fixed:
    """Return the precision of `auto` on such a device. Emulated support does not count."""
    return next(rule.precision for rule in RULES if rule.applies(capabilities))


def capabilities_of(device: torch.device) -> DeviceCapabilities:
    """Return the capabilities of `device`, even if it is not the current device."""
    import torch

    if device.type == "cuda":
        arch = torch.cuda.get_device_properties(device).gcnArchName if torch.version.hip else ""
        return DeviceCapabilities("cuda", torch.cuda.get_device_capability(device), arch)
    if device.type == "mps":
        return DeviceCapabilities("mps", bf16=torch.backends.mps.is_macos_or_newer(14, 0))
    if device.type == "xpu":
        said = torch.xpu.get_device_properties(device)
        return DeviceCapabilities("xpu", bf16=bool(getattr(said, "has_bfloat16_conversions", False)))
    return DeviceCapabilities(device.type)


def torch_dtype(precision: Fixed) -> torch.dtype:
    """Return the torch dtype of a precision."""
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
