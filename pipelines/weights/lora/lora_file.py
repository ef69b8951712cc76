"""Reads a LoRA file of any dialect as changes. Reads the header and the alphas, no weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import LoraError, ModelError
from ..stored_tensors import Files, is_safetensors, read_header_and_metadata
from .change import Change, Parts
from .lora_names import LoraKey, NamedExpert, other_network, read_key, unread_form
from .metadata import ADAPTER_WEIGHTS, read_adapter_configs

__all__ = ["LoraFile", "read_lora"]

# Weights that mean nothing without these; a LoRA made of them would be noise.
_QUANTISED = (".scale_weight", ".weight_scale", "scaled_fp8", ".comfy_quant", ".scale_input", ".input_scale")
_LABELS_SHOWN = 6
_SHOWN = 120  # characters of a key that nobody knows: it can hold anything, at any length


@dataclass(frozen=True)
class LoraFile:
    """A parsed LoRA file.

    unknown_keys:   keys that are no change of a Wan transformer, safe to show.
    other_networks: keys that change another network, by its name ("the text encoder", "VACE").
    """

    file: Path
    dialect: str
    changes: tuple[Change, ...] = field(repr=False)
    unknown_keys: tuple[str, ...] = field(repr=False)
    metadata: Mapping[str, str] = field(repr=False)
    other_networks: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)

    @property
    def alphas_elsewhere(self) -> bool:
        """Whether alphas stand in the header or in `adapter_config.json`, where ComfyUI does not look."""
        configured = [change for change in self.changes if change.alpha is not None and change.scale != 1]
        return any(not any(key.endswith(".alpha") for key in change.keys) for change in configured)

    @property
    def alphas_missing(self) -> bool:
        """Whether it is an adapter of PEFT without the configuration that holds its alphas."""
        named = self.file.name.lower().startswith(ADAPTER_WEIGHTS.partition(".")[0])
        scaled = [change for change in self.changes if "OFT" not in change.kind]  # which has no alpha
        return named and bool(scaled) and not any(change.alpha is not None for change in scaled)

    def changes_of(self, expert: str) -> tuple[Change, ...]:
        """Return the changes for "high" or "low": all, unless the file separates the experts."""
        if not any(change.expert for change in self.changes):
            return self.changes
        return tuple(change for change in self.changes if (change.expert or "high") == expert)


def read_lora(file: Path) -> LoraFile:
    """Return all changes in a LoRA file, for any model.

    Raises LoraError if it is not a readable safetensors file, lacks a part of a change, contradicts itself or
    is quantised.
    """
    if not is_safetensors(file):
        raise LoraError(f"{file}: not a .safetensors file; give a LoRA in that format")
    try:
        tensors, metadata = read_header_and_metadata(file)
    except ModelError as error:
        raise LoraError(str(error)) from error
    scaled = [_shown(key) for key in tensors if key.endswith(_QUANTISED)]
    if scaled:
        raise LoraError(f"{file.name}: is quantised ({', '.join(scaled[:3])}); use the LoRA in bf16 or fp16")
    if other := unread_form(tensors):
        raise LoraError(
            f"{file.name}: is an adapter of the form {other}, which is not read; use a LoRA, DoRA, LoHa, "
            "LoKr, OFT, BOFT or GLoRA"
        )
    modules: dict[tuple[NamedExpert, str], Parts] = {}
    unknown_keys: list[str] = []
    others: dict[str, list[str]] = {}
    known: list[LoraKey] = []
    for text, tensor in tensors.items():
        key = read_key(text)
        if key is None:
            network = other_network(text)
            (unknown_keys if network is None else others.setdefault(network, [])).append(_shown(text))
            continue
        known.append(key)
        place = (key.expert, key.module)
        modules.setdefault(place, Parts(file, key)).add(key.part, tensor)
    configs = read_adapter_configs(file, metadata)
    changes: list[Change] = []
    with Files() as files:
        for (expert, _), parts in modules.items():
            changes += parts.changes(configs.get(expert or "high"), files)
            unknown_keys += parts.left
    return LoraFile(
        file,
        _dialect(known),
        tuple(changes),
        tuple(sorted(unknown_keys)),
        metadata,
        {network: tuple(sorted(keys)) for network, keys in others.items()},
    )


def _shown(key: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in key[:_SHOWN])


def _dialect(keys: list[LoraKey]) -> str:
    """Return how the file names its keys, such as `diffusion_model., Wan names, alpha lora_down lora_up`."""
    if not keys:
        return "unknown"
    prefixes = sorted({key.prefix or "no prefix" for key in keys})
    names = sorted({key.names for key in keys} - {""})
    labels = sorted({key.label.removesuffix(".weight") for key in keys})
    spelling = f"{' and '.join(names)} names" if names else "names that Wan and diffusers share"
    return f"{' and '.join(prefixes)}, {spelling}, {' '.join(labels[:_LABELS_SHOWN])}"
