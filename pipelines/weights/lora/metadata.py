"""Reads the adapter configuration that diffusers and PEFT write into the header of a LoRA file."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import LoraError

__all__ = ["AdapterConfig", "read_adapter_configs"]

_KEY = "lora_adapter_metadata"  # diffusers/loaders/lora_base.py, LORA_ADAPTER_METADATA_KEY


@dataclass(frozen=True)
class AdapterConfig:
    """The alphas of one transformer. `alphas`: module, or the end of its name, -> its own alpha."""

    alpha: float
    alphas: Mapping[str, float]
    rank_stabilised: bool

    def alpha_of(self, module: str) -> float:
        for pattern, alpha in self.alphas.items():
            if module == pattern or module.endswith(f".{pattern}"):
                return alpha
        return self.alpha


def read_adapter_configs(file: Path, metadata: Mapping[str, str]) -> dict[bool, AdapterConfig]:
    """Return the configurations of the first (False) and the second transformer (True) in the header.

    Raises LoraError if one cannot be read: without its alpha the LoRA would have another strength than
    trained.
    """
    if _KEY not in metadata:
        return {}
    try:
        content = json.loads(metadata[_KEY])
    except (ValueError, RecursionError) as error:
        raise LoraError(f"{file.name}: {_KEY} in its header is not readable as JSON") from error
    if not isinstance(content, dict):
        raise LoraError(f"{file.name}: {_KEY} in its header holds a {type(content).__name__}, not an object")
    found: dict[bool, AdapterConfig] = {}
    for second, prefixes in ((False, ("transformer.", "")), (True, ("transformer_2.",))):
        for prefix in prefixes:
            if f"{prefix}lora_alpha" in content:
                found[second] = _config(file, content, prefix)
                break
    return found


def _config(file: Path, content: Mapping[str, Any], prefix: str) -> AdapterConfig:
    patterns = content.get(f"{prefix}alpha_pattern") or {}
    if not isinstance(patterns, dict):
        raise LoraError(f"{file.name}: alpha_pattern in its header is no object")
    return AdapterConfig(
        alpha=_number(file, "lora_alpha", content[f"{prefix}lora_alpha"]),
        alphas={
            _plain_name(file, pattern): _number(file, f"alpha_pattern[{pattern!r}]", alpha)
            for pattern, alpha in patterns.items()
        },
        rank_stabilised=content.get(f"{prefix}use_rslora") is True,
    )


def _plain_name(file: Path, pattern: str) -> str:
    """Return the literal module name of a pattern, which PEFT uses as a regular expression.

    Files contain names, at most anchored and with escaped dots. An expression from a file is never executed.
    """
    name = pattern.removeprefix("^").removesuffix("$").replace("\\.", ".")
    if not re.fullmatch(r"[\w.]+", name):
        raise LoraError(
            f"{file.name}: alpha_pattern in its header has {pattern!r:.80}, which names no module"
        )
    return name


def _number(file: Path, name: str, value: Any) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not abs(value) <= sys.float_info.max:  # also false for NaN; integers have no end
        raise LoraError(f"{file.name}: {name} in its header is {value!r:.80}; a number is needed")
    return float(value)
