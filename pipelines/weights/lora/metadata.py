"""Reads the adapter configuration of a LoRA, from the header of its file or `adapter_config.json` beside it.

diffusers writes the first, PEFT the second. Without its alpha a LoRA has another strength than trained.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ...errors import LoraError
from ..json_object import json_object

__all__ = [
    "ADAPTER_WEIGHTS",
    "AdapterConfig",
    "OrthogonalConfig",
    "adapter_config_beside",
    "read_adapter_configs",
]

ADAPTER_WEIGHTS = "adapter_model.safetensors"  # peft/utils/constants.py, SAFETENSORS_WEIGHTS_NAME
_CONFIG = "adapter_config.json"  # peft/utils/constants.py, CONFIG_NAME
_LARGEST_CONFIG = 2**20  # bytes; it has some KiB
_MOST_TERMS = 100
_SHOWN = 40  # characters of a file's own text in a message
# Ways to begin a training that take a part out of the base weight: peft/tuners/lora/layer.py, *_init.
_CHANGED_BASE = ("pissa", "olora", "corda", "lora_ga")
_Default = TypeVar("_Default", float, "float | None")
_KEY = "lora_adapter_metadata"  # diffusers/loaders/lora_base.py, LORA_ADAPTER_METADATA_KEY


@dataclass(frozen=True)
class OrthogonalConfig:
    """How OFT of PEFT makes rotations from its numbers.

    series_terms: of the series in place of the inverse; None computes the inverse.
    block_share:  one rotation for all groups of inputs.
    limit:        largest norm of all skew-symmetric matrices together (COFT); None without a limit.
    """

    series_terms: int | None
    block_share: bool
    limit: float | None


@dataclass(frozen=True)
class AdapterConfig:
    """The alphas and ranks of one transformer.

    alphas, ranks: module, or the end of its name, -> its own value.
    rank:          None if the configuration states none.
    where:         where it stands, for messages.
    orthogonal:    of an adapter of OFT, which has no alpha.
    """

    where: str
    alpha: float
    alphas: Mapping[str, float]
    rank: float | None
    ranks: Mapping[str, float]
    rank_stabilised: bool
    orthogonal: OrthogonalConfig | None = None

    def alpha_of(self, *names: str) -> float:
        """Return the alpha of a module. names: all names of it, the one in the file included."""
        return _chosen(self.alphas, self.alpha, names)

    def rank_of(self, *names: str) -> float | None:
        """Return the rank that is stated for a module, as `alpha_of`."""
        return _chosen(self.ranks, self.rank, names)


def adapter_config_beside(file: Path) -> Path | None:
    """Return the `adapter_config.json` that belongs to a LoRA file.

    In a folder with several LoRAs it belongs to the one that has PEFT's own name. A downloaded LoRA has one
    under its own name.
    """
    own = file.with_suffix(f".{_CONFIG}")
    if own.is_file():
        return own
    config = file.with_name(_CONFIG)
    if not config.is_file():
        return None
    if file.name.lower() == ADAPTER_WEIGHTS:
        return config
    return config if sum(other.suffix == file.suffix for other in file.parent.iterdir()) == 1 else None


def read_adapter_configs(file: Path, metadata: Mapping[str, str]) -> dict[str, AdapterConfig]:
    """Return the configurations of the first ("high") and the second transformer ("low").

    What is in the header has precedence over the file beside it.

    Raises LoraError if one cannot be read.
    """
    if _KEY in metadata:
        return _of_header(f"{file.name}: {_KEY} in its header", metadata[_KEY])
    beside = adapter_config_beside(file)
    if beside is None:
        return {}
    config = _of_peft(f"{file.parent.name}/{beside.name}", _text(beside))
    return {"high": config, "low": config}


def _of_header(where: str, text: str) -> dict[str, AdapterConfig]:
    content = json_object(text, where, LoraError)
    found: dict[str, AdapterConfig] = {}
    for expert, prefixes in (("high", ("transformer.", "")), ("low", ("transformer_2.",))):
        for prefix in prefixes:
            if f"{prefix}lora_alpha" in content:
                found[expert] = _config(where, content, prefix, f"{prefix}lora_alpha")
                break
    return found


def _of_peft(where: str, text: str) -> AdapterConfig:
    content = json_object(text, where, LoraError)
    if content.get("peft_type") in ("OFT", "BOFT"):
        return AdapterConfig(where, 1.0, {}, None, {}, False, _orthogonal(where, content))
    alpha = "lora_alpha" if "lora_alpha" in content else "alpha"  # LoHaConfig and LoKrConfig of PEFT
    if alpha not in content:
        raise LoraError(f"{where} states no lora_alpha; the strength of the LoRA is unknown without it")
    return _config(where, content, "", alpha)


def _orthogonal(where: str, content: Mapping[str, Any]) -> OrthogonalConfig:
    terms, limit = None, None
    if content.get("use_cayley_neumann"):  # PEFT before 0.16 had the inverse alone
        terms = int(_number(where, "num_cayley_neumann_terms", content.get("num_cayley_neumann_terms", 5)))
        if not 1 <= terms <= _MOST_TERMS:
            raise LoraError(f"{where}: num_cayley_neumann_terms is {terms}; 1 to {_MOST_TERMS} are usual")
    if content.get("coft"):
        limit = _number(where, "eps", content.get("eps", 6e-5))
    return OrthogonalConfig(terms, content.get("block_share") is True, limit)


def _text(file: Path) -> str:
    try:
        if file.stat().st_size > _LARGEST_CONFIG:
            raise ValueError(f"it is larger than {_LARGEST_CONFIG} bytes")
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise LoraError(f"{file.parent.name}/{file.name} cannot be read: {error}") from error


def _config(where: str, content: Mapping[str, Any], prefix: str, alpha: str) -> AdapterConfig:
    start = str(content.get(f"{prefix}init_lora_weights"))[:_SHOWN]
    if start.lower().startswith(_CHANGED_BASE):
        raise LoraError(
            f"{where} states init_lora_weights {start}: it was trained beside a changed base weight, which "
            "is not in the file; save it with PEFT's path_initial_model_for_weight_conversion"
        )
    rank = content.get(f"{prefix}r")
    return AdapterConfig(
        where=where,
        alpha=_number(where, "lora_alpha", content[alpha]),
        alphas=_patterns(where, content, f"{prefix}alpha_pattern"),
        rank=None if rank is None else _number(where, "r", rank),
        ranks=_patterns(where, content, f"{prefix}rank_pattern"),
        rank_stabilised=content.get(f"{prefix}use_rslora") is True,
    )


def _patterns(where: str, content: Mapping[str, Any], name: str) -> dict[str, float]:
    patterns = content.get(name) or {}
    if not isinstance(patterns, dict):
        raise LoraError(f"{where}: {name} is no object")
    return {
        _plain_name(where, name, pattern): _number(where, f"{name}[{pattern!r:.80}]", value)
        for pattern, value in patterns.items()
    }


def _plain_name(where: str, name: str, pattern: str) -> str:
    """Return the literal module name of a pattern, which PEFT uses as a regular expression.

    Files contain names, at most anchored and with escaped dots. An expression from a file is never executed.
    """
    plain = pattern.removeprefix("^").removesuffix("$").replace("\\.", ".")
    if not re.fullmatch(r"[\w.]+", plain):
        raise LoraError(f"{where}: {name} has {pattern!r:.80}, which names no module")
    return plain


def _number(where: str, name: str, value: Any) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not abs(value) <= sys.float_info.max:  # also false for NaN; integers have no end
        raise LoraError(f"{where}: {name} is {value!r:.80}; a number is needed")
    return float(value)


def _chosen(values: Mapping[str, float], default: _Default, names: tuple[str, ...]) -> float | _Default:
    for pattern, value in values.items():
        if any(name == pattern or name.endswith(f".{pattern}") for name in names):
            return value
    return default
