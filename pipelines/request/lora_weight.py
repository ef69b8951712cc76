"""Defines one LoRA of a request, in three forms: of fal, of its older endpoint, and of Novita."""

from __future__ import annotations

import re
from pathlib import PurePosixPath, PureWindowsPath
from typing import ClassVar, Literal

from pydantic import field_validator
from pydantic_core import PydanticCustomError

from .step_values import OptionalStepValues, StepValues, is_constant, strongest
from .strict_model import StrictModel
from .web_address import is_https

__all__ = [
    "LegacyLoRAWeight",
    "LoRAWeight",
    "NovitaLoRA",
    "PhaseLoRA",
    "Place",
    "StageLoRA",
    "bare_path",
    "place_of",
    "why_not_sent",
    "why_not_used",
]

Expert = Literal["high", "low", "both"]
Place = Literal["address", "embedded", "repository", "file"]
_EMBEDDED = "toy/"
_SUFFIXES = (".safetensors", ".sft", ".pt", ".pth", ".ckpt", ".bin", ".gguf")


def place_of(path: str) -> Place:
    """Return what the `path` of a LoRA is: a URL, toy/NAME, a Hugging Face owner/name, or a file."""
    if "://" in path:
        return "address"
    if (
        path.count("/") != 1
        or "\\" in path
        or path.startswith((".", "/", "~"))
        or path.lower().endswith(_SUFFIXES)
    ):
        return "file"
    return "embedded" if path.startswith(_EMBEDDED) else "repository"


def bare_path(path: str) -> str:
    """Return a path that may be shown to others: no folders of a file, no user or query of an address."""
    if place_of(path) == "address":
        bare, _, _ = path.partition("?")
        return re.sub(r"//[^/@]*@", "//", bare)
    for flavour in (PurePosixPath, PureWindowsPath):
        if flavour(path).is_absolute():
            return flavour(path).name
    return path


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


def why_not_used(path: str, weight_name: str | None) -> str | None:
    """Return why this machine takes no LoRA from there, with the field. None if it may take it."""
    place = place_of(path)
    if place == "address" and not is_https(path):
        return "path is downloaded over https only; give an https address"
    if place in ("file", "embedded") and weight_name is not None:
        return "weight_name chooses a file in a repository, but path is a file; leave one out"
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

    transformer: Expert = "high"


class StageLoRA(_HasPath):
    """A LoRA with a strength of its own on each expert. It is for this machine alone."""

    contract: ClassVar[str] = "StageLoRA"

    weight_name: str | None = None
    high: StepValues = 1.0
    low: OptionalStepValues = None

    @property
    def moves(self) -> bool:
        """Whether the strength on an expert changes between its steps."""
        return not (is_constant(self.high) and is_constant(self.low))

    def weights(self) -> tuple[LoRAWeight, ...]:
        """Return it as entries of `loras`: one for both experts, or one for each that it changes.

        One that moves has its strongest moment in them.
        """
        high = strongest(self.high)
        low = high if self.low is None else strongest(self.low)

        def on(expert: Expert, scale: float) -> LoRAWeight:
            return LoRAWeight(path=self.path, weight_name=self.weight_name, scale=scale, transformer=expert)

        if low == high:
            return (on("both", low),)
        pairs: tuple[tuple[Expert, float], ...] = (("high", high), ("low", low))
        return tuple(on(expert, scale) for expert, scale in pairs if scale)


class PhaseLoRA(_HasPath):
    """A LoRA of one phase of a run. It is for this machine alone."""

    contract: ClassVar[str] = "PhaseLoRA"

    weight_name: str | None = None
    scale: StepValues = 1.0


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
