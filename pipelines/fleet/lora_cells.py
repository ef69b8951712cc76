"""Turns LoRAs, strengths, experts, prompts and seeds into the rows of a batch: one for each combination."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from ..errors import RequestError
from ..request.parse import request_for
from ..request.seeds import SEED_MAX
from .batch_rows import BatchRow

__all__ = [
    "NO_LORA",
    "LoraCell",
    "LoraSetting",
    "cells_of",
    "experts_in",
    "settings_of",
    "strengths_in",
]

_STRANGE = re.compile(r"[^A-Za-z0-9_.-]+")
_LONGEST_NAME = 40
_EXPERTS = ("high", "low", "both")


@dataclass(frozen=True)
class LoraSetting:
    """One LoRA at one strength on "high", "low" or "both" experts. path: None for none."""

    path: str | None
    expert: str = ""
    strength: float = 0.0

    @property
    def name(self) -> str:
        """Its part of a file name."""
        if self.path is None:
            return "none"
        stem = _STRANGE.sub("_", Path(self.path).stem)[:_LONGEST_NAME].strip(".-_") or "lora"
        return f"{stem}-{self.expert}-{self.strength:g}"

    def loras(self) -> list[dict[str, Any]]:
        """Return the field `loras` of a request."""
        if self.path is None:
            return []
        return [{"path": self.path, "transformer": self.expert, "scale": self.strength}]


NO_LORA = LoraSetting(None)


@dataclass(frozen=True)
class LoraCell:
    """One video of the bench. prompt: its number, from 1."""

    setting: LoraSetting
    prompt: int
    seed: int
    row: BatchRow

    @property
    def name(self) -> str:
        return str(self.row.name)


def settings_of(
    files: Sequence[str], strengths: Sequence[float], experts: Sequence[str]
) -> list[LoraSetting]:
    """Return every setting, no LoRA first. Raises RequestError if two would have files of one name."""
    settings = [
        NO_LORA,
        *(
            LoraSetting(file, expert, strength)
            for file in files
            for expert in experts
            for strength in strengths
        ),
    ]
    names = [setting.name.lower() for setting in settings]
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise RequestError.of("FILE", f"two LoRAs or strengths are called {doubled}", "give each once")
    return settings


def cells_of(
    settings: Sequence[LoraSetting],
    task: str,
    values: Mapping[str, Any],
    prompts: Sequence[str],
    seeds: Sequence[int],
) -> list[LoraCell]:
    """Return a cell for each setting, prompt and seed. Cells of one setting follow each other.

    values: further fields of all requests. Raises RequestError as `request_for` does.
    """
    if max(seeds) > SEED_MAX:
        raise RequestError.of("seed", f"got {max(seeds)}", f"give at most {SEED_MAX}")

    def cell(setting: LoraSetting, number: int, seed: int) -> LoraCell:
        own = {"prompt": prompts[number - 1], "seed": seed, "loras": setting.loras()}
        name = f"p{number}-s{seed}-{setting.name}"
        return LoraCell(setting, number, seed, BatchRow(number, name, request_for(task, {**values, **own})))

    numbers = range(1, len(prompts) + 1)
    return [cell(*combination) for combination in product(settings, numbers, seeds)]


def strengths_in(text: str) -> list[float]:
    """Return the numbers of "0.5, 1". Raises RequestError for anything else."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise RequestError.of("strengths", f"{text!r} is no list of numbers", "write 0.5,1") from None


def experts_in(text: str) -> list[str]:
    """Return the words of "high, low, both". Raises RequestError for others."""
    experts = [part.strip() for part in text.split(",")]
    if not set(experts) <= set(_EXPERTS):
        raise RequestError.of("experts", f"{text!r}", f"give one or more of {', '.join(_EXPERTS)}")
    return experts
