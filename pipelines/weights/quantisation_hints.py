"""Reads what a file states about its quantised layers, as ComfyUI writes it.

    blocks.0.ffn.0.comfy_quant   {"format": "int8_tensorwise", "convrot": true}, as bytes beside the layer
    _quantization_metadata       {"layers": {"blocks.0.ffn.0": {"format": ...}}}, in the metadata of the file,
                                 with or without the prefix that the names of the tensors have

Source: comfy/ops.py (`_load_quantized_module`) and comfy/utils.py (`convert_old_quants`) of ComfyUI 0.33.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ModelError
from .json_object import json_object
from .module_names import transformer_prefix
from .stored_tensors import Files, StoredTensor

__all__ = ["HINT", "QuantisationHint", "read_hints"]

HINT = "comfy_quant"
_METADATA = "_quantization_metadata"
_MAX_HINT_BYTES = 4096
_SHOWN = 200  # letters of a file's own text in a message


@dataclass(frozen=True)
class QuantisationHint:
    """What a file states about one layer.

    options: by name, from beside the format or from `params`; beside the format wins, as in ComfyUI.
    """

    file: Path
    layer: str
    format: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def whole_number(self, name: str, default: int) -> int:
        """Return a positive integer option. Raises ModelError if it is anything else."""
        value = self.options.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
            raise ModelError(
                f"{self.file}: {self.layer} states {name} as {str(value)[:_SHOWN]}; a positive whole number "
                "is needed; the file is damaged"
            )
        return value


def read_hints(
    tensors: Mapping[str, StoredTensor], metadata: Mapping[str, str]
) -> dict[str, QuantisationHint]:
    """Return the hints of a checkpoint by layer, from beside it or from the metadata.

    Raises ModelError that names file and layer if a hint is not readable, or the two contradict each other.
    """
    said: dict[str, Any] = {}
    file = next((stored.file for stored in tensors.values()), Path())
    if _METADATA in metadata:
        layers = json_object(metadata[_METADATA], f"{file}: {_METADATA}").get("layers", {})
        said.update(_of_tensors(layers, tensors) if isinstance(layers, dict) else {_METADATA: layers})
    with Files() as files:
        for key, stored in tensors.items():
            layer, _, leaf = key.rpartition(".")
            if leaf == HINT:
                if stored.dtype != "U8" or stored.stored_bytes > _MAX_HINT_BYTES:
                    raise ModelError(f"{stored.file}: {key} should hold a short text; the file is damaged")
                beside = json_object(files.content(stored.file, key), f"{stored.file}: {key}")
                if said.get(layer, beside) != beside:
                    raise ModelError(
                        f"{stored.file}: {key} and {_METADATA} in the header state different formats of "
                        f"{layer}; the file is damaged: download it again"
                    )
                said[layer] = beside
    return {layer: _hint(file, layer, content) for layer, content in said.items()}


def _of_tensors(layers: Mapping[str, Any], tensors: Mapping[str, StoredTensor]) -> dict[str, Any]:
    """Return what is stated, by the layers' names in the file: ComfyUI takes names without prefix too."""
    known = {key.rpartition(".")[0] for key in tensors}
    prefix = transformer_prefix(tensors) or ""
    return {
        prefix + layer if layer not in known and prefix + layer in known else layer: content
        for layer, content in layers.items()
    }


def _hint(file: Path, layer: str, content: Any) -> QuantisationHint:
    options = content if isinstance(content, dict) else {"format": content}
    params = options.get("params")
    beside = {name: value for name, value in options.items() if name not in ("format", "params")}
    return QuantisationHint(
        file,
        layer,
        str(options.get("format"))[:_SHOWN],
        {**(params if isinstance(params, dict) else {}), **beside},
    )
