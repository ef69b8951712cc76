"""One LoRA of a request, in the three forms that providers take it."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import field_validator
from pydantic_core import PydanticCustomError

from .base import StrictModel

__all__ = ["LegacyLoRAWeight", "LoRAWeight", "NovitaLoRA", "Place", "place_of"]

Place = Literal["address", "embedded", "repository", "file"]
_EMBEDDED = "toy/"
_SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".gguf")


def place_of(path: str) -> Place:
    """What the `path` of a LoRA means: a URL, `toy/NAME`, a Hugging Face `owner/name`, or a file."""
    if "://" in path:
        return "address"
    if path.count("/") != 1 or "\\" in path or path.startswith((".", "/", "~")) or path.endswith(_SUFFIXES):
        return "file"
    return "embedded" if path.startswith(_EMBEDDED) else "repository"


class _HasPath(StrictModel):
    path: str

    @field_validator("path")
    @classmethod
    def _names_something(cls, path: str) -> str:
        if not path.strip():
            raise PydanticCustomError("blank", "empty")
        return path


class _LoRA(_HasPath):
    weight_name: str | None = None
    scale: float = 1.0


class LoRAWeight(_LoRA):
    """A small weight file that changes one expert or both."""

    contract: ClassVar[str] = "LoRAWeight"

    transformer: Literal["high", "low", "both"] = "high"


class LegacyLoRAWeight(_LoRA):
    """As fal-ai/wan-22 takes it: there is no choosing an expert."""

    contract: ClassVar[str] = "LoRAWeight_wan22_seed001"
    transformer: ClassVar[str] = "both"  # what a local run does with it


class NovitaLoRA(_HasPath):
    """As Novita takes it; the model has one expert."""

    contract: ClassVar[str] = "NovitaLoRA"
    weight_name: ClassVar[None] = None
    transformer: ClassVar[str] = "both"

    scale: float
