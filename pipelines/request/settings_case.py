"""The settings of `local` beside the values of their request, and the findings about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .local_settings import LocalSettings, stages_named
from .model_facts import ModelFacts
from .report import Finding, Status
from .strict_model import as_json
from .timing import running_steps

__all__ = ["SettingsCase", "second_scale"]


def second_scale(local: LocalSettings) -> float:
    """Return the NAG scale of the low-noise expert."""
    return local.nag_scale if local.nag_scale_2 is None else local.nag_scale_2


@dataclass(frozen=True)
class SettingsCase:
    """A request to check. values: as the run would use them. guidance: scale of each stage of the model."""

    local: LocalSettings
    task: str
    values: Mapping[str, Any]
    guidance: Mapping[str, float]
    own_engine: bool
    family: ModelFacts | None = None

    @property
    def nag_scales(self) -> dict[str, float]:
        scales = {"high": self.local.nag_scale, "low": second_scale(self.local)}
        return {stage: scales[stage] for stage in self.guidance}

    @property
    def zero_star(self) -> tuple[str, ...]:
        """The stages that CFG-Zero* is asked for."""
        return stages_named(self.local.cfg_zero_star, self.guidance)

    @property
    def steps(self) -> int:
        """How many steps run."""
        return running_steps(self.values["num_inference_steps"], self.values["strength"])

    def finding(self, name: str, status: Status, reason: str) -> Finding:
        value = as_json(getattr(self.local, name))
        return Finding(f"local.{name}", status, value, None if status == "impossible" else value, reason)
