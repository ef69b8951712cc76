"""The formats of quantised layers: which tensors and options each has, and whether they fit together.

Everything is checked on shapes and types alone, so that decoding cannot fail later.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import ModelError
from ..kernels.block_scales import scale_grid
from .number_formats import (
    BlockFloat4,
    BlockFloat8,
    GroupedInt4,
    NumberFormat,
    RotatedInt4,
    ScaledNumbers,
    ceil_div,
)
from .quantisation_hints import QuantisationHint
from .stored_tensors import NUMBERS, StoredTensor

__all__ = ["FLOATS", "FORMATS", "READABLE", "SCALED", "SCALES", "LayerFormat", "QuantisedLayer"]

SCALES = ("scale_weight", "weight_scale", "weight_scale_inv", "weight._scale")
FLOATS = frozenset({"F32", "F16", "BF16"})
READABLE = (
    "use a bf16, fp8, int8 or GGUF version of this model; bf16 and fp8 ones are at "
    "https://huggingface.co/Comfy-Org/Wan_2.2_ComfyUI_Repackaged"
)
_USUAL_BLOCKS = (128, 64, 32, 16, 256, 512)  # sides; 128 of DeepSeek and LightX2V


@dataclass(frozen=True)
class QuantisedLayer:
    """A weight with the tensors beside it, by their names after the layer's."""

    name: str
    weight: StoredTensor
    beside: Mapping[str, StoredTensor]
    hint: QuantisationHint | None

    def option(self, name: str, default: int) -> int:
        return default if self.hint is None else self.hint.whole_number(name, default)

    def damaged(self, what: str) -> ModelError:
        return ModelError(f"{self.weight.file}: {self.name} {what}; the file is damaged: download it again")

    def unreadable(self, parts: Iterable[str] = ()) -> ModelError:
        beside = ", ".join(parts or self.beside) or "nothing beside it"
        return ModelError(
            f"{self.weight.file}: {self.weight.key} is quantised in an unsupported format: "
            f"{self.weight.dtype}, with {beside}; {READABLE}"
        )


def _scaled(layer: QuantisedLayer) -> ScaledNumbers:
    part = next((part for part in SCALES if part in layer.beside), None)
    factor = layer.beside.get("scale_weight_tensor")
    if part is None or layer.weight.dtype not in NUMBERS | {"I8"}:
        raise layer.unreadable()
    scale = layer.beside[part]
    if scale.dtype not in FLOATS:
        raise layer.unreadable([f"{part} in {scale.dtype}"])
    if factor is not None and (factor.dtype not in FLOATS or math.prod(factor.shape) != 1):
        raise layer.damaged("has a scale_weight_tensor that is not one float number")
    return ScaledNumbers(layer.weight, scale, _block(layer, scale), factor)


def _block(layer: QuantisedLayer, scale: StoredTensor) -> tuple[int, int]:
    """Return how many rows and columns share a scale."""
    shape, given = layer.weight.shape, scale.shape
    rows, columns = (shape or (1,))[0], math.prod(shape[1:])
    if math.prod(given) == 1:
        return max(rows, 1), max(columns, 1)
    if given[:1] == (rows,) and math.prod(given) == rows:
        return 1, max(columns, 1)
    block = 0, 0
    if len(shape) == 2 and 0 not in (*shape, *given):
        if len(given) == 2:
            block = _side(rows, given[0]), _side(columns, given[1])
        elif len(given) == 3 and (given[0], given[2]) == (rows, 1):  # musubi-tuner, along each row
            block = 1, _equal_side(columns, given[1])
    if 0 not in block:
        return block
    raise ModelError(
        f"{scale.file}: {scale.key} has shape {list(given)} for a weight of shape {list(shape)}; one scale "
        "per weight, per row or per block is supported"
    )


def _side(length: int, blocks: int) -> int:
    """Return the side of the blocks that `length` is cut into; 0 for none. The last may be smaller."""
    usual = next((side for side in _USUAL_BLOCKS if ceil_div(length, side) == blocks), 0)
    return _equal_side(length, blocks) if blocks == 1 else usual or _equal_side(length, blocks)


def _equal_side(length: int, blocks: int) -> int:
    return 0 if length % blocks else length // blocks


def _mxfp8(layer: QuantisedLayer) -> BlockFloat8:
    scale = layer.beside["weight_scale"]
    _require_grid(layer, scale, {"U8", "F8_E8M0"}, layer.weight.shape, 32)
    return BlockFloat8(layer.weight, scale)


def _nvfp4(layer: QuantisedLayer) -> BlockFloat4:
    scale, factor = layer.beside["weight_scale"], layer.beside["weight_scale_2"]
    shape = layer.weight.shape
    _require_grid(layer, scale, {"U8", "F8_E4M3"}, (*shape[:-1], 2 * shape[-1]) if shape else (), 16)
    if factor.dtype not in FLOATS or math.prod(factor.shape) != 1:
        raise layer.damaged("has a weight_scale_2 that is not one float number")
    return BlockFloat4(layer.weight, scale, factor)


def _require_grid(
    layer: QuantisedLayer, scale: StoredTensor, dtypes: set[str], shape: tuple[int, ...], along: int
) -> None:
    """Raise ModelError unless there is a scale for each `along` numbers of a row, in whole tiles."""
    if len(shape) != 2 or 0 in shape or shape[1] % along:
        raise layer.damaged(f"has shape {list(layer.weight.shape)}, not rows of whole blocks of {along}")
    wanted = scale_grid(shape[0], shape[1] // along)
    if scale.dtype not in dtypes or math.prod(scale.shape) != wanted:
        raise layer.damaged(
            f"has {math.prod(scale.shape)} block scales in {scale.dtype}; {wanted} in "
            f"{' or '.join(sorted(dtypes))} are needed"
        )


def _int4_rows(layer: QuantisedLayer) -> RotatedInt4:
    scale = layer.beside["weight_scale"]
    _require_packed(layer)
    if scale.dtype not in FLOATS or math.prod(scale.shape) != layer.weight.shape[0]:
        raise layer.damaged(f"has a weight_scale of shape {list(scale.shape)}; one number per row is needed")
    return RotatedInt4(layer.weight, scale)


def _int4_groups(layer: QuantisedLayer) -> GroupedInt4:
    group = layer.option("group_size", 16)
    group_scale, row_scale = layer.beside["weight_s_rel"], layer.beside["weight_s_channel"]
    codebook = layer.beside.get("weight_codebook")
    _require_packed(layer)
    rows, columns = layer.weight.shape[0], 2 * layer.weight.shape[1]
    if columns % group or group_scale.shape != (rows, columns // group):
        raise layer.damaged(
            f"has a weight_s_rel of shape {list(group_scale.shape)}; one per {group} of {columns} columns is "
            "needed"
        )
    if group_scale.dtype not in {"F8_E4M3", "U8", *FLOATS}:
        raise layer.damaged(f"has a weight_s_rel in {group_scale.dtype}")
    if row_scale.dtype not in FLOATS or math.prod(row_scale.shape) != rows:
        raise layer.damaged(f"has a weight_s_channel of shape {list(row_scale.shape)}; one per row is needed")
    if codebook is not None and (codebook.dtype not in FLOATS or math.prod(codebook.shape) != 16):
        raise layer.damaged(f"has a weight_codebook of shape {list(codebook.shape)}; 16 numbers are needed")
    return GroupedInt4(layer.weight, group_scale, row_scale, codebook, group)


def _require_packed(layer: QuantisedLayer) -> None:
    if len(layer.weight.shape) != 2 or 0 in layer.weight.shape:
        raise layer.damaged(f"has shape {list(layer.weight.shape)}; a matrix is needed")


def _rotated_if_said(layer: QuantisedLayer) -> int:
    said = layer.hint is not None and layer.hint.options.get("convrot")
    return layer.option("convrot_groupsize", 256) if said else 0


def _rotated(layer: QuantisedLayer) -> int:
    return layer.option("convrot_groupsize", 256)


def _unrotated(layer: QuantisedLayer) -> int:
    del layer
    return 0


class LayerFormat(NamedTuple):
    """A format of ComfyUI: how it is read, and which tensors and options it has beside the weight."""

    numbers: Callable[[QuantisedLayer], NumberFormat]
    dtypes: frozenset[str]
    needs: tuple[str, ...]
    may: tuple[str, ...] = ()
    options: frozenset[str] = frozenset()
    rotation: Callable[[QuantisedLayer], int] = _unrotated


_ROTATION = frozenset({"convrot_groupsize"})
SCALED = LayerFormat(_scaled, NUMBERS | {"I8"}, (), (*SCALES, "scale_weight_tensor"))
FORMATS = {
    "float8_e4m3fn": LayerFormat(_scaled, frozenset({"F8_E4M3"}), ("weight_scale",)),
    "float8_e5m2": LayerFormat(_scaled, frozenset({"F8_E5M2"}), ("weight_scale",)),
    "int8_tensorwise": LayerFormat(
        _scaled, frozenset({"I8"}), ("weight_scale",), (), _ROTATION | {"convrot"}, _rotated_if_said
    ),
    "mxfp8": LayerFormat(_mxfp8, frozenset({"F8_E4M3"}), ("weight_scale",)),
    "nvfp4": LayerFormat(_nvfp4, frozenset({"U8"}), ("weight_scale", "weight_scale_2")),
    "convrot_w4a4": LayerFormat(
        _int4_rows,
        frozenset({"I8", "U8"}),
        ("weight_scale",),
        (),
        _ROTATION | {"linear_dtype", "quant_group_size"},
        _rotated,
    ),
    "asym_w4a8_int8": LayerFormat(
        _int4_groups,
        frozenset({"I8", "U8"}),
        ("weight_s_rel", "weight_s_channel"),
        ("weight_codebook",),
        _ROTATION | {"group_size"},
        _rotated,
    ),
}
