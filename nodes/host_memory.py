"""Device memory inside ComfyUI: its models and ours make room for each other.

ComfyUI keeps a list of loaded models and unloads from it when it needs memory. The list holds weak references
only. A network is referenced by the run that uses it. A network that stays after a run is referenced by the
KeepAlive of its model, that is by the output of the loader node.
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

# The types that core may choose from, the preferred one first, as each of its models lists them. Wan was
# trained in bfloat16, and the command line takes it on the same card; core's own Wan lists float16 first.
_ORDER: tuple[Fixed, ...] = ("bf16", "fp16", "fp32")


class HostMemory:
    """device.memory.Memory on ComfyUI's model management.

    keep_alive: keeps the network after a run; None keeps none.
    device:     where networks run; None is ComfyUI's main device.
    """

    def __init__(self, keep_alive: KeepAlive | None = None, device: torch.device | None = None) -> None:
        self._keep_alive = keep_alive or KeepAlive()
        self._device = device
        self._in_use: list[_HostEntry] = []

    @property
    def device(self) -> torch.device:
        return self._device or model_management.get_torch_device()

    def for_part(self, part: Part) -> HostMemory:
        """A VAE runs where ComfyUI runs its own: on the CPU with --cpu-vae."""
        device = model_management.vae_device() if part == "vae" else self.device
        return self if device == self.device else HostMemory(device=device)

    def auto_dtype(self, part: Part) -> torch.dtype:
        """What ComfyUI would compute such a network in on this device, by its flags and its own rules."""
        order = [torch_dtype(precision) for precision in _ORDER]
        if part == "vae":
            return model_management.vae_dtype(self.device, order)
        if part == "transformer":
            held = model_management.unet_dtype(self.device, supported_dtypes=order)
        else:
            held = model_management.text_encoder_dtype(self.device)
        # Where the device does not compute in what core holds weights in, core casts: None means it need not.
        cast = model_management.unet_manual_cast(held, self.device, order)
        if cast is None and held not in order:  # --fp64-unet
            raise RequestError.of(
                "precision",
                f"auto, and ComfyUI was told to compute in {str(held).removeprefix('torch.')}",
                "choose fp32, bf16 or fp16",
            )
        return cast or held

    def free_bytes(self) -> int | None:
        """Without what ComfyUI keeps for others: --reserve-vram, or its own default. `load_models_gpu` adds
        that by itself to what `reserve` asks for.
        """
        if model_management.is_directml_enabled():
            return None  # core says 1 GiB there, whatever the card has
        if model_management.is_device_cpu(self.device):  # where unloading frees nothing
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
            # ComfyUI never asks for room there, so nobody would ever close it.
            resident.close()
            self.release()
        else:
            slot = self._in_use.pop()
            slot.resident = resident
            self._keep_alive.entry = slot

    def take(self, working_bytes: int = 0) -> Resident | None:
        slot, self._keep_alive.entry = self._keep_alive.entry, None
        if not isinstance(slot, _HostEntry) or slot.loaded_size() == 0 or slot.load_device != self.device:
            return None
        resident, slot.resident = slot.resident, None
        self._make_room(slot, working_bytes)
        return resident

    def _make_room(self, slot: _HostEntry, working_bytes: int) -> None:
        model_management.load_models_gpu([slot], memory_required=working_bytes)
        self._in_use.append(slot)


class WanDuetNetwork:
    """What ComfyUI takes for the model in a slot, and names in its log. It dies with the slot."""


class _HostEntry:
    """The room of one network, in the shape of a ModelPatcher: what ComfyUI 0.25 asks of one that is loaded.

    Weights come and go whole, on one device. They are not copied back to the CPU when they go: a recipe makes
    them again.
    """

    parent = None  # of a clone; there are none

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
        """Nothing but the weights would have to be moved."""

    def model_dtype(self) -> None:
        """A network of ours has several."""

    def model_size(self) -> int:
        return self._size_bytes

    def loaded_size(self) -> int:
        return self._size_bytes if self._loaded else 0

    def lowvram_patch_counter(self) -> int:
        return 0

    def current_loaded_device(self) -> torch.device:
        return self.load_device if self._loaded else self.offload_device

    def partially_load(self, *_limit: object, **_how: object) -> int:
        """Room is made; the weights are filled in by whoever reserved it."""
        added = self.model_size() - self.loaded_size()
        self._loaded = True
        return added

    def partially_unload(self, *_limit: object, **_how: object) -> int:
        return 0

    def detach(self, unpatch_all: bool = True) -> WanDuetNetwork:
        """Give the weights up. Without `unpatch_all` the slot is only about to be loaded again."""
        if unpatch_all:
            self._loaded = False
            if self.resident is not None:
                self.resident.close()
                self.resident = None
        return self.model
