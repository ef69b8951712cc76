"""One LoRA of a request."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator
from pydantic_core import PydanticCustomError

from .base import StrictModel

__all__ = ["LoRAWeight"]


class LoRAWeight(StrictModel):
    """A small weight file that changes one expert or both. Mirrors the type `LoRAWeight` of requests.json."""

    path: str
    weight_name: str | None = None
    scale: float = 1.0
    transformer: Literal["high", "low", "both"] = "high"

    @field_validator("path")
    @classmethod
    def _names_something(cls, path: str) -> str:
        if not path.strip():
            raise PydanticCustomError("blank", "empty")
        return path
