"""Device memory inside ComfyUI: its own models make room for ours."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from comfy import model_management

if TYPE_CHECKING:
    import torch

__all__ = ["HostMemory"]

log = logging.getLogger(__name__)


class HostMemory:
    """pipelines.memory.Memory on ComfyUI's model management."""

    @property
    def device(self) -> torch.device:
        return model_management.get_torch_device()

    def reserve(self, size_bytes: int, what: str) -> None:
        log.info("loading %s: %.2f GiB on %s", what, size_bytes / 2**30, self.device)
        model_management.free_memory(size_bytes + model_management.minimum_inference_memory(), self.device)

    def release(self) -> None:
        model_management.soft_empty_cache()
