"""Reserves device memory through ComfyUI, so that its models and ours make room for each other.

ComfyUI keeps a list of loaded models and unloads some when it needs memory. The list has only weak
references. A run references the networks that it uses. A network that is kept after a run is referenced by
the KeepAlive of its model, which the output of the loader node holds.
"""

from __future__ import annotations

import logging
import uuid
from typing import TYPE_CHECKING

from comfy import model_management

from ..pipelines.device.memory import KeepAlive, total_under_cap, under_cap
from ..pipelines.device.precision import torch_dtype
from ..pipelines.device.ram import free_ram, total_ram, trim_heap
from ..pipelines.errors import RequestError

if TYPE_CHECKING:
    import torch

    from ..pipelines.device.memory import Resident
    from ..pipelines.device.precision import Fixed, Part

__all__ = ["HostMemory"]

log = logging.getLogger(__name__)

# The dtypes that core may choose from, the preferred one first. Wan was trained in bfloat16, which the
# command line uses on the same device too. Core's own list for Wan starts with float16.
_ORDER: tuple[Fixed, ...] = ("bf16", "fp16", "fp32")


class HostMemory:
    """Implements `device.memory.Memory` with ComfyUI's model management.

    keep_alive: keeps the network after a run. None keeps none.
    device:     runs the networks. None uses ComfyUI's main device.
    """

    def __init__(self, keep_alive: KeepAlive | None = None, device: torch.device | None = None) -> None:
        self._keep_alive = keep_alive or KeepAlive()
        self._device = device
        self._in_use: list[_HostEntry] = []

    @property
    def device(self) -> torch.device:
        return self._device or model_management.get_torch_device()

    def for_part(self, part: Part) -> HostMemory:
        """Return the memory for a part. A VAE runs where ComfyUI runs its own: on the CPU with --cpu-vae."""
        device = model_management.vae_device() if part == "vae" else self.device
        return self if device == self.device else HostMemory(device=device)

    def auto_dtype(self, part: Part) -> torch.dtype:
        """Return the dtype in which ComfyUI would compute such a network here, by its flags and rules.

        Raises RequestError on `precision` for a dtype that we do not support, as with --fp64-unet.
        """
        order = [torch_dtype(precision) for precision in _ORDER]
        if part == "vae":
            return model_management.vae_dtype(self.device, order)
        if part == "transformer":
            held = model_management.unet_dtype(self.device, supported_dtypes=order)
        else:
            held = model_management.text_encoder_dtype(self.device)
        # None: the device computes in the dtype of the weights, so core does not cast.
        cast = model_management.unet_manual_cast(held, self.device, order)
        if cast is None and held not in order:  # --fp64-unet
            raise RequestError.of(
                "precision",
                f"auto, and ComfyUI's flags choose {str(held).removeprefix('torch.')}",
                "choose fp32, bf16 or fp16",
            )
        return cast or held

    def free_bytes(self) -> int | None:
        """Return the free memory in bytes. None if unknown.

        Leaves out what ComfyUI reserves for other programs (--reserve-vram, or its default).
        `load_models_gpu` adds that itself to a reservation.
        """
        if model_management.is_directml_enabled():
            return None  # core always reports 1 GiB there
        if model_management.is_device_cpu(self.device):  # unloading frees nothing there
            free, returned = free_ram(), 0
        else:
            free = int(model_management.get_free_memory(self.device))
            returned = sum(
                loaded.model_loaded_memory()
                for loaded in model_management.current_loaded_models
                if loaded.device == self.device and loaded.model is not None
            )
        return under_cap(self.device, free - int(model_management.extra_reserved_memory()), returned)

    def total_bytes(self) -> int | None:
        if model_management.is_directml_enabled():
            return None
        if model_management.is_device_cpu(self.device):
            return total_ram()
        return total_under_cap(self.device, int(model_management.get_total_memory(self.device)))

    def reserve(self, size_bytes: int, what: str, working_bytes: int = 0) -> None:
        log.info("loading %s: %.2f GiB on %s", what, size_bytes / 2**30, self.device)
        self._make_room(_HostEntry(size_bytes, self.device), working_bytes)

    def release(self) -> None:
        self._in_use.clear()
        trim_heap()
        model_management.soft_empty_cache()

    def keep(self, resident: Resident) -> None:
        if model_management.is_device_cpu(self.device):
            # ComfyUI never makes room there, so the network would stay forever.
            resident.close()
            self.release()
        else:
            entry = self._in_use.pop()
            entry.resident = resident
            self._keep_alive.entry = entry

    def take(self, working_bytes: int = 0) -> Resident | None:
        entry, self._keep_alive.entry = self._keep_alive.entry, None
        if not isinstance(entry, _HostEntry) or entry.loaded_size() == 0 or entry.load_device != self.device:
            return None
        resident, entry.resident = entry.resident, None
        self._make_room(entry, working_bytes)
        return resident

    def _make_room(self, entry: _HostEntry, working_bytes: int) -> None:
        model_management.load_models_gpu([entry], memory_required=working_bytes)
        self._in_use.append(entry)


class WanDuetNetwork:
    """The object that ComfyUI treats as the model of an entry, and names in its log. Ends with the entry."""


class _HostEntry:
    """The reservation of one network, with the interface of a loaded ModelPatcher of ComfyUI 0.25.

    Its weights are loaded and freed as a whole, on one device. They are not copied to the CPU when they are
    freed, because a recipe can make them again.
    """

    parent = None  # set only for clones, of which there are none

    def __init__(self, size_bytes: int, device: torch.device) -> None:
        self.load_device, self.offload_device = device, model_management.unet_offload_device()
        self.model = WanDuetNetwork()
        self.clone_base_uuid = uuid.uuid4()
        self.resident: Resident | None = None
        self._size_bytes, self._loaded = size_bytes, False

    def is_dynamic(self) -> bool:
        return False

    def is_clone(self, other: object) -> bool:
        return other is self

    def model_patches_models(self) -> list[object]:
        return []

    def model_patches_to(self, device_or_dtype: object) -> None:
        """Do nothing: there is nothing to move but the weights."""

    def model_dtype(self) -> None:
        """Return None: our networks have several dtypes."""

    def model_size(self) -> int:
        return self._size_bytes

    def loaded_size(self) -> int:
        return self._size_bytes if self._loaded else 0

    def lowvram_patch_counter(self) -> int:
        return 0

    def current_loaded_device(self) -> torch.device:
        return self.load_device if self._loaded else self.offload_device

    def partially_load(self, *_limit: object, **_how: object) -> int:
        """Count as loaded. The caller of `reserve` fills in the weights."""
        added = self.model_size() - self.loaded_size()
        self._loaded = True
        return added

    def partially_unload(self, *_limit: object, **_how: object) -> int:
        return 0

    def detach(self, unpatch_all: bool = True) -> WanDuetNetwork:
        """Free the weights. With `unpatch_all` off, ComfyUI is about to load the entry again."""
        if unpatch_all:
            self._loaded = False
            if self.resident is not None:
                self.resident.close()
                self.resident = None
        return self.model
