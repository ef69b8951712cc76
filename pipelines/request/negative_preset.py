"""The negative prompt of the official code, where the request has none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .local_settings import LocalSettings
from .model_facts import ModelFacts

__all__ = ["preset_negative"]


def preset_negative(
    local: LocalSettings | None, values: Mapping[str, Any], family: ModelFacts | None
) -> dict[str, str]:
    """Return {"negative_prompt": text} if the settings ask for the official one and the request has none."""
    if local is None or local.negative_preset == "none" or values.get("negative_prompt") or family is None:
        return {}
    return {"negative_prompt": family.negative_prompt}
