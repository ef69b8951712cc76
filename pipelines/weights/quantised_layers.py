"""Recognises quantised layers by the tensors beside a weight, and by what the file states about them.

    blocks.0.ffn.0.weight               8-bit floats or integers
    blocks.0.ffn.0.scale_weight         their scale: one number, one per row, or one per block of a row
    blocks.0.ffn.0.weight_scale         the same in ComfyUI, LightX2V and others
    blocks.0.ffn.0.weight_scale_inv     one per block of rows and columns (DeepSeek's name)
    blocks.0.ffn.0.weight._data         Wan2GP (quanto), with `weight._scale`
    blocks.0.ffn.0.comfy_quant          the name of a format of ComfyUI, with more tensors for some

Scales of the input (`scale_input`, `input_scale`) are not read: products are done in the precision of the
network, and those on stored numbers have a scale for each token.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..errors import ModelError
from .layer_formats import FLOATS, FORMATS, READABLE, SCALED, SCALES, LayerFormat, QuantisedLayer
from .number_formats import NumberFormat, ceil_div
from .quantisation_hints import HINT, QuantisationHint, read_hints
from .quantised_tensor import QuantisedTensor
from .stored_tensors import NUMBERS, Source, StoredTensor, read_header_and_metadata

__all__ = ["read_safetensors"]

_SMOOTHING = "pre_quant_scale"
_BESIDE = (
    *SCALES,
    "scale_weight_tensor",
    "weight_scale_2",
    "weight_s_rel",
    "weight_s_channel",
    "weight_codebook",
    _SMOOTHING,
)
_UNUSED = {"scale_input", "input_scale", "output_scale", HINT, "scaled_fp8"}
# Options that do not change what the numbers mean: the shape of a scale says whether there is one per row.
_HARMLESS = {"full_precision_matrix_mult", "orig_dtype", "orig_shape", "per_row", "per_channel"}
# Tensors by which quantised files are known that are not read here, and the name of their format.
_OTHER_FORMATS = {
    "wscales": "SVDQuant of nunchaku",
    "wtscale": "SVDQuant of nunchaku",
    "qzeros": "AWQ or GPTQ",
    "g_idx": "GPTQ",
    "weight.absmax": "bitsandbytes",
    "weight.quant_map": "bitsandbytes",
    "SCB": "bitsandbytes int8",
    "weight_packed": "compressed-tensors",
    "weight_global_scale": "nvfp4 as LightX2V and vLLM store it",
    "weight._data._data": "quanto with 4 bits",
    "weight._shift": "quanto with 4 bits",
    "weight_zero_point": "integers with a zero point",
    "weight_qdata": "torchao",
    "W_q": "HQQ",
    "qweight": "packed integers (nunchaku, AWQ or GPTQ)",
}


def read_safetensors(files: Iterable[Path]) -> dict[str, Source]:
    """Return the tensors of one checkpoint, from one or several files, by the files' keys and decoded.

    Tensors of bytes (an embedded tokenizer) are returned too: their user knows their meaning.

    Raises ModelError that names the file if one cannot be read, and example keys if weights are compressed in
    an unsupported format.
    """
    stored: dict[str, StoredTensor] = {}
    metadata: dict[str, str] = {}
    for file in files:
        tensors, of_file = read_header_and_metadata(file)
        if twice := next((key for key in tensors if key in stored), None):
            raise ModelError(
                f"{file}: has {twice}, which {stored[twice].file.name} has too; leave one of the two"
            )
        stored.update(tensors)
        metadata.update(of_file)
    return _decoded(stored, read_hints(stored, metadata))


def _decoded(tensors: Mapping[str, StoredTensor], hints: Mapping[str, QuantisationHint]) -> dict[str, Source]:
    _refuse_other_formats(tensors)
    found: dict[str, Source] = {}
    used: set[str] = set()
    for key, stored in tensors.items():
        name = _layer_of(key)
        if name is None:
            continue
        beside = {part: tensors[f"{name}.{part}"] for part in _BESIDE if f"{name}.{part}" in tensors}
        layer = QuantisedLayer(name, stored, beside, hints.get(name))
        if f"{name}.weight" in found:
            raise layer.damaged("has two weights, `weight` and `weight._data`")
        found[f"{name}.weight"] = _source(layer)
        used |= {key, *(f"{name}.{part}" for part in beside)}
    for name, hint in hints.items():
        if tensors and f"{name}.weight" not in found:
            raise ModelError(
                f"{hint.file}: states that {name} is {hint.format}, but has no weight of that name"
            )
    _require_every_scale(found)
    rest = {key: stored for key, stored in tensors.items() if key not in used}
    return found | {key: stored for key, stored in rest.items() if key.rpartition(".")[2] not in _UNUSED}


def _require_every_scale(weights: Mapping[str, Source]) -> None:
    """Raise ModelError if one fp8 matrix of a network has no scale, and others have."""
    scaled = {key.partition(".")[0] for key, source in weights.items() if _is_scaled(source)}
    for key, source in weights.items():
        plain = isinstance(source, StoredTensor) and source.dtype.startswith("F8") and len(source.shape) == 2
        if plain and key.partition(".")[0] in scaled:
            raise ModelError(
                f"{source.file}: {key} has no scale, but other matrices in fp8 have one; the file is "
                "damaged: download it again"
            )


def _is_scaled(source: Source) -> bool:
    return isinstance(source, QuantisedTensor) and source.weight.dtype.startswith("F8")


def _layer_of(key: str) -> str | None:
    return next((key.removesuffix(end) for end in (".weight", ".weight._data") if key.endswith(end)), None)


def _refuse_other_formats(tensors: Mapping[str, StoredTensor]) -> None:
    for part, name in _OTHER_FORMATS.items():
        example = next((stored for key, stored in tensors.items() if key.endswith(f".{part}")), None)
        if example is not None:
            raise ModelError(
                f"{example.file}: is quantised as {name} (has {example.key}), which is not read; {READABLE}"
            )


def _source(layer: QuantisedLayer) -> Source:
    hint, scales = layer.hint, [part for part in SCALES if part in layer.beside]
    if len(scales) > 1:
        raise layer.damaged(f"has two scales, {' and '.join(scales)}, of which only one can apply")
    if hint is None and not layer.beside:
        if layer.weight.dtype not in NUMBERS:
            raise layer.unreadable()
        return layer.weight
    return _quantised(layer, SCALED if hint is None else _stated(hint))


def _stated(hint: QuantisationHint) -> LayerFormat:
    """Return the format that a hint names. Raises ModelError if it, or an option, is unknown."""
    known = FORMATS.get(hint.format)
    acting = {name for name, value in hint.options.items() if value and name not in _HARMLESS}
    if known is not None and acting <= known.options:
        return known
    kind = f"{hint.format} with {', '.join(sorted(acting - known.options))[:200]}" if known else hint.format
    raise ModelError(f"{hint.file}: {hint.layer} is quantised as {kind}, which is not read; {READABLE}")


def _quantised(layer: QuantisedLayer, known: LayerFormat) -> QuantisedTensor:
    if hint := layer.hint:
        if layer.weight.dtype not in known.dtypes:
            raise layer.damaged(f"is stored as {layer.weight.dtype}, but marked as {hint.format}")
        if lacking := [part for part in known.needs if part not in layer.beside]:
            raise layer.damaged(f"is marked as {hint.format}, but the file has no {lacking[0]} for it")
    if strange := sorted(set(layer.beside) - {*known.needs, *known.may, _SMOOTHING}):
        raise layer.unreadable(strange)
    numbers = known.numbers(layer)
    rotation = known.rotation(layer)
    if rotation and (rotation < 4 or rotation.bit_count() != 1 or rotation.bit_length() % 2 == 0):
        raise layer.damaged(f"states groups of {rotation} rotated columns, which is no power of 4")
    if rotation and (len(numbers.shape) != 2 or numbers.shape[1] % rotation):
        raise layer.damaged(f"has shape {list(numbers.shape)}, not groups of {rotation} rotated columns")
    smoothing = layer.beside.get(_SMOOTHING)
    return QuantisedTensor(numbers, _shape(layer, numbers, smoothing), rotation, smoothing)


def _shape(layer: QuantisedLayer, numbers: NumberFormat, smoothing: StoredTensor | None) -> tuple[int, ...]:
    """Return the shape, without padded columns if `pre_quant_scale` tells how many there really are."""
    if smoothing is None:
        return numbers.shape
    columns, by = math.prod(smoothing.shape), numbers.tile[1]
    whole = len(numbers.shape) == 2 and ceil_div(columns, by) * by == numbers.shape[1]
    if smoothing.dtype not in FLOATS or not whole:
        raise layer.damaged(
            f"has shape {list(numbers.shape)}, but {columns} numbers as {_SMOOTHING} in {smoothing.dtype}"
        )
    return numbers.shape[0], columns
