"""Names the step caches of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

__all__ = ["CACHE_THRESHOLDS", "StepCacheName"]

StepCacheName = Literal["off", "first-block", "magcache", "easycache"]

CACHE_THRESHOLDS: Mapping[str, float] = {
    "first-block": 0.06,  # what ParaAttention's documentation names for HunyuanVideo
    "easycache": 0.05,  # the default of EasyCache4Wan2.1/easycache_generate.py
}
"""The thresholds that their authors recommend. That of magcache depends on the model."""
