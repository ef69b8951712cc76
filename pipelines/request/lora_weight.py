"""Defines one LoRA of a request, in three forms: of fal, of its older endpoint, and of Novita."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import field_validator
from pydantic_core import PydanticCustomError

from .strict_model import StrictModel
from .web_address import is_https

__all__ = ["LegacyLoRAWeight", "LoRAWeight", "NovitaLoRA", "Place", "place_of", "why_not_sent"]

Place = Literal["address", "embedded", "repository", "file"]
_EMBEDDED = "toy/"
_SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".gguf")


def place_of(path: str) -> Place:
    """Return what the `path` of a LoRA is: a URL, toy/NAME, a Hugging Face owner/name, or a file."""
    if "://" in path:
        return "address"
    if path.count("/") != 1 or "\\" in path or path.startswith((".", "/", "~")) or path.endswith(_SUFFIXES):
        return "file"
    return "embedded" if path.startswith(_EMBEDDED) else "repository"


def why_not_sent(path: str) -> tuple[str, str] | None:
    """Return why no provider takes a LoRA from `path`, and what to give instead. None if one may take it."""
    place = place_of(path)
    if place == "embedded":
        return "belongs to the embedded model", "give a LoRA for the provider's model"
    if place == "address" and not is_https(path):
        return "not an https address", "give https, a repository or a file"
    if place == "file" and not path.lower().endswith(".safetensors"):
        return "not a .safetensors file", "give one that is"
    return None


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
    """A LoRA for one expert or for both."""

    contract: ClassVar[str] = "LoRAWeight"

    transformer: Literal["high", "low", "both"] = "high"


class LegacyLoRAWeight(_LoRA):
    """A LoRA of fal-ai/wan-22, which has no choice of expert."""

    contract: ClassVar[str] = "LoRAWeight_wan22_seed001"
    transformer: ClassVar[str] = "both"  # a local run applies it to both


class NovitaLoRA(_HasPath):
    """A LoRA at Novita, whose model has one expert."""

    contract: ClassVar[str] = "NovitaLoRA"
    weight_name: ClassVar[None] = None
    transformer: ClassVar[str] = "both"

    scale: float
