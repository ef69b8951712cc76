"""8-bit floats with a scale, in both spellings that are in use; whatever else is compressed is refused.

    blocks.0.ffn.0.weight        fp8
    blocks.0.ffn.0.scale_weight  one number for all, or one per row    ComfyUI until 2025, with a `scaled_fp8`
    blocks.0.ffn.0.weight_scale  the same                              ComfyUI since, LightX2V

The newer spelling says what it is beside each layer (`comfy_quant`: JSON in bytes) or in the metadata of the
file. Scales of the input (`scale_input`, `input_scale`) serve a multiplication in fp8. Ours is done in the
precision of the network, so they are not read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ModelError
from .stored_tensors import NUMBERS, Files, Source, StoredTensor, read_header, read_metadata

__all__ = ["ScaledTensor", "read_safetensors"]

_SCALES = ("scale_weight", "weight_scale")
_UNUSED = ("scale_input", "input_scale")
_HINT = "comfy_quant"
_MARKER = "scaled_fp8"
_METADATA = "_quantization_metadata"
_FORMATS = {"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"}
# What a hint may say beside its format without changing what the numbers mean.
_HARMLESS = {"format", "full_precision_matrix_mult", "orig_dtype", "orig_shape"}
_MAX_HINT_BYTES = 4096


@dataclass(frozen=True)
class ScaledTensor:
    """A stored tensor times a scale: one for all numbers, or one per row."""

    weight: StoredTensor
    scale: StoredTensor

    @property
    def file(self) -> Path:
        return self.weight.file

    @property
    def shape(self) -> tuple[int, ...]:
        return self.weight.shape

    @property
    def stored_bytes(self) -> int:
        return self.weight.stored_bytes + self.scale.stored_bytes

    def read(self, files: Files) -> Tensor:
        device = "cpu" if files.device.type == "mps" else files.device  # MPS has no 8-bit floats
        weight = self.weight.read(files).to(device)
        scale = self.scale.read(files).to(device=device, dtype=torch.float32)
        per_row = scale.reshape(-1, *[1] * (len(self.shape) - 1))
        return weight.to(torch.float32, copy=True).mul_(per_row)


def read_safetensors(files: Iterable[Path]) -> dict[str, Source]:
    """Return the tensors of one checkpoint, from one or several files, by the files' keys and with scales.

    Tensors of bytes (an embedded tokenizer) are returned too: their user knows their meaning.

    Raises ModelError that names the file if one cannot be read, and example keys if weights are compressed in
    an unsupported format.
    """
    stored: dict[str, StoredTensor] = {}
    metadata: dict[str, str] = {}
    for file in files:
        stored.update(read_header(file))
        metadata.update(read_metadata(file))
    return _with_scales(stored, metadata)


def _with_scales(tensors: Mapping[str, StoredTensor], metadata: Mapping[str, str]) -> dict[str, Source]:
    layers = _hints(tensors, metadata)
    found: dict[str, Source] = {}
    used: set[str] = set()
    for key, stored in tensors.items():
        layer, _, leaf = key.rpartition(".")
        if leaf != "weight":
            continue
        scales = [f"{layer}.{name}" for name in _SCALES if f"{layer}.{name}" in tensors]
        if len(scales) > 1:
            raise ModelError(
                f"{stored.file}: {layer} has two scales, of which only one can apply; the file is damaged"
            )
        used.update(scales)
        said = layers.get(layer)
        if said is not None and said != stored.dtype:
            raise ModelError(f"{stored.file}: {key} is stored as {stored.dtype}, but marked as {said}")
        if said is not None and not scales:
            raise ModelError(f"{stored.file}: {key} is marked as scaled, but the file has no scale for it")
        if scales:
            found[key] = _scaled(stored, tensors[scales[0]])
        elif stored.dtype in NUMBERS:
            found[key] = stored
        else:
            raise _compressed(stored, [name for name in tensors if name.startswith(f"{layer}.")])
    for key, stored in tensors.items():
        leaf = key.rpartition(".")[2]
        if key not in found and key not in used and leaf not in (*_UNUSED, _HINT, _MARKER):
            found[key] = stored
    return found


def _compressed(weight: StoredTensor, layer: list[str]) -> ModelError:
    return ModelError(
        f"{weight.file}: {weight.key} is quantised in an unsupported format: {weight.dtype}, with "
        f"{', '.join(layer[:4])}; use a bf16, fp8 or GGUF version of this model"
    )


def _scaled(weight: StoredTensor, scale: StoredTensor) -> ScaledTensor:
    rows = weight.shape[:1] or (1,)
    if weight.dtype not in NUMBERS or scale.dtype not in {"F32", "F16", "BF16"}:
        raise _compressed(weight, [weight.key, f"{scale.key} in {scale.dtype}"])
    if math.prod(scale.shape) != 1 and (math.prod(scale.shape), scale.shape[:1]) != (rows[0], rows):
        raise ModelError(
            f"{weight.file}: {scale.key} has shape {list(scale.shape)} for a weight of shape "
            f"{list(weight.shape)}; only one scale per weight or per row is supported"
        )
    return ScaledTensor(weight, scale)


def _hints(tensors: Mapping[str, StoredTensor], metadata: Mapping[str, str]) -> dict[str, str]:
    """Return {layer: dtype} from what the file states about its compression."""
    said: dict[str, Any] = {}
    file = next((stored.file for stored in tensors.values()), Path())
    if _METADATA in metadata:
        content = _json(file, _METADATA, metadata[_METADATA])
        layers = content.get("layers", {})
        said.update(layers if isinstance(layers, dict) else {_METADATA: layers})
    with Files(torch.device("cpu")) as files:
        for key, stored in tensors.items():
            layer, _, leaf = key.rpartition(".")
            if leaf == _HINT:
                if stored.dtype != "U8" or stored.stored_bytes > _MAX_HINT_BYTES:
                    raise ModelError(f"{stored.file}: {key} should hold a short text; the file is damaged")
                said[layer] = _json(stored.file, key, stored.read(files).numpy().tobytes())
    return {layer: _dtype_of(file, layer, hint) for layer, hint in said.items()}


def _dtype_of(file: Path, layer: str, hint: Any) -> str:
    name = hint.get("format") if isinstance(hint, dict) else hint
    known = _FORMATS.get(name) if isinstance(name, str) else None
    more = sorted(key for key in hint if key not in _HARMLESS and hint[key]) if isinstance(hint, dict) else []
    if known is None or more:
        kind = f"{name} with {', '.join(more)}" if more else str(name)
        raise ModelError(
            f"{file}: {layer} is quantised as {kind[:200]}, which is not supported; use a bf16, fp8 or GGUF "
            "version of this model"
        )
    return known


def _json(file: Path, key: str, text: str | bytes) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file}: {key} is not readable as JSON: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{file}: {key} holds a {type(content).__name__}; a JSON object is needed")
    return content
