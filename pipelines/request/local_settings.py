"""The object `local` of a request: what only this machine has. No provider is sent it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

from pydantic import Field

from .strict_model import StrictModel

__all__ = ["NAG_ALPHA", "NAG_TAU", "LocalSettings", "StageNames", "stages_named"]

StageNames = Literal["off", "high", "low", "both"]

NAG_TAU, NAG_ALPHA = 2.5, 0.25  # NAGWanPipeline of ChenDarYen/Normalized-Attention-Guidance
_LARGEST_SCALE = 100


class LocalSettings(StrictModel):
    """Settings of this machine. A value equal to its default is as if it were left out.

    Append new fields at the end: nodes and flags are made from them in this order.
    """

    contract: ClassVar[str] = "local"

    nag_scale: float = Field(1.0, ge=1, le=_LARGEST_SCALE)
    nag_scale_2: float | None = Field(None, ge=1, le=_LARGEST_SCALE)
    nag_tau: float = Field(NAG_TAU, ge=0.01, le=_LARGEST_SCALE)
    nag_alpha: float = Field(NAG_ALPHA, ge=0, le=1)
    nag_negative_prompt: str | None = None
    cfg_zero_star: StageNames = "off"
    cfg_zero_steps: int = Field(0, ge=0, le=1000)

    def asked(self) -> dict[str, Any]:
        """Return the values that differ from their defaults, as JSON."""
        return self.model_dump(mode="json", exclude_defaults=True)


def stages_named(stages: str, experts: Iterable[str]) -> tuple[str, ...]:
    """Return the experts that "off", "high", "low" or "both" names."""
    return tuple(name for name in experts if stages in (name, "both"))
