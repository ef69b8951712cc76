"""ComfyUI's networks of one model, behind the port of `pipelines`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .stage import sample_stages

if TYPE_CHECKING:
    from torch import Tensor

    from ...pipelines.loading.host_model import HostPrompts, HostStage, HostStart

__all__ = ["ComfyNetworks"]


@dataclass(frozen=True)
class ComfyNetworks:
    """pipelines.loading.host_model.HostNetworks.

    experts: MODEL of "high" and perhaps "low". clip, clip_vision: None where they are not connected.
    """

    experts: Mapping[str, Any]
    clip: Any | None = None
    clip_vision: Any | None = None

    def sample(self, stages: Sequence[HostStage], start: HostStart, prompts: HostPrompts) -> Tensor:
        return sample_stages(self.experts, stages, start, prompts)
