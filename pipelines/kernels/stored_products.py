"""Multiplies tokens by matrices on the numbers that quantised files store. Lossy: tokens are quantised too.

Each kind of product has a reference in plain torch, which computes it on a CPU, and ways of the matrix units
of NVIDIA GPUs. A way is tried once on a device, against the reference, before it is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from ..device.late_torch import F, torch
from . import kitchen_products as kitchen
from .block_scales import e8m0_scale, from_e2m1, in_order, in_tiles, per_token, to_e2m1
from .trial import DeviceFacts, facts_of, first_that_runs, remembered

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "TOKENS_AT_ONCE",
    "WAYS",
    "Multiply",
    "ProductWay",
    "StoredProduct",
    "choose_way",
    "quantised_matrix",
    "way_candidates",
]

StoredProduct = Literal["int8", "fp8", "mxfp8", "nvfp4"]

Multiply = Callable[..., "Tensor"]
"""(tokens, *parts of the matrix) -> (M, out), in any float type.

tokens: (M, in), float32; overwritten.
int8:   numbers (out, in) int8, and a scale for each row (out,) float32.
fp8:    the same with e4m3 or e5m2 numbers.
mxfp8:  e4m3 numbers (out, in), and e8m0 scales of 32 of a row, uint8 in tiles (`block_scales.in_tiles`).
nvfp4:  e2m1 numbers (out, in / 2), packed; e4m3 scales of 16 of a row, uint8 in tiles; one float32 factor.
Rows and columns of the last two may be padded.
"""

TOKENS_AT_ONCE = 2048  # what is made beside the result stays small, and products are still quick

_INT8, _E4M3, _E2M1 = 127.0, 448.0, 6.0  # the largest numbers
_E8M0_BIAS = 127
_LEAST_ROWS = 17  # of the left factor of torch._int_mm on CUDA
_MOST_APART = 0.01  # of the trial; results in bfloat16 are rounded by up to 0.4 %


class ProductWay(NamedTuple):
    """One implementation of a product.

    capability: the least compute capability of an NVIDIA GPU; None for the reference.
    multiple:   rows and columns of the matrix must be multiples of it.
    kitchen:    the functions that comfy-kitchen must have kernels for; empty if it is not needed.
    """

    product: StoredProduct
    multiply: Multiply
    capability: tuple[int, int] | None = None
    multiple: int = 1
    kitchen: tuple[str, ...] = ()


@dataclass(frozen=True)
class StoredLayer:
    """A linear layer that computes on the numbers of its file.

    way:      how, of WAYS.
    shape:    (out, in) of the layer.
    parts:    the names and shapes of its parameters, in the order of the product; then those of its LoRAs.
    rotation: columns per group that are rotated together; 0 if none are.
    rank:     of all LoRAs together.
    """

    way: str
    shape: tuple[int, ...]
    parts: tuple[tuple[str, tuple[int, ...]], ...]
    rotation: int = 0
    rank: int = 0


def _int8_reference(tokens: Tensor, numbers: Tensor, row_scale: Tensor) -> Tensor:
    """Sum in float64: as exact as int32, and ten times as fast as torch._int_mm on a CPU."""
    tokens, scale = per_token(tokens, _INT8)
    return (tokens.round_().double() @ numbers.double().t()).float().mul_(scale).mul_(row_scale)


def _int8(tokens: Tensor, numbers: Tensor, row_scale: Tensor) -> Tensor:
    """Sum in int32, which is exact."""
    tokens, scale = per_token(tokens, _INT8)
    left = tokens.round_().to(torch.int8)
    if len(left) < _LEAST_ROWS:
        left = F.pad(left, (0, 0, 0, _LEAST_ROWS - len(left)))
    sums = torch._int_mm(left, numbers.t())[: len(tokens)]
    return sums.float().mul_(scale).mul_(row_scale)


def _fp8_reference(tokens: Tensor, numbers: Tensor, row_scale: Tensor) -> Tensor:
    tokens, scale = per_token(tokens, _E4M3)
    return (tokens.to(torch.float8_e4m3fn).float() @ numbers.float().t()).mul_(scale).mul_(row_scale)


def _fp8_scaled(tokens: Tensor, numbers: Tensor, row_scale: Tensor) -> Tensor:
    """Scale inside the product."""
    tokens, scale = per_token(tokens, _E4M3)
    left, by_row = tokens.to(torch.float8_e4m3fn), row_scale.view(1, -1)
    return torch._scaled_mm(left, numbers.t(), scale_a=scale, scale_b=by_row, out_dtype=torch.bfloat16)


def _fp8_unscaled(tokens: Tensor, numbers: Tensor, row_scale: Tensor) -> Tensor:
    """Scale after the product: not every device and torch has scales by row."""
    tokens, scale = per_token(tokens, _E4M3)
    left, one = tokens.to(torch.float8_e4m3fn), torch.ones((), device=tokens.device)
    sums = torch._scaled_mm(left, numbers.t(), scale_a=one, scale_b=one, out_dtype=torch.float32)
    return sums.mul_(scale).mul_(row_scale)


def _mx_tokens(tokens: Tensor, columns: int) -> tuple[Tensor, Tensor]:
    """Return tokens as e4m3 numbers and e8m0 scales (M, columns / 32), the least that lets none overflow."""
    blocks = _blocks(tokens, columns, 32)
    share, exponent = torch.frexp(torch.linalg.vector_norm(blocks, math.inf, dim=2) / _E4M3)
    exponent = (exponent - (share == 0.5).int() + _E8M0_BIAS).clamp_(1, 254).to(torch.uint8)
    return (blocks / e8m0_scale(exponent)[..., None]).to(torch.float8_e4m3fn).flatten(1), exponent


def _mxfp8_reference(tokens: Tensor, numbers: Tensor, block_scale: Tensor) -> Tensor:
    left, scale = _mx_tokens(tokens, numbers.shape[1])
    of_rows = in_order(block_scale, len(numbers), scale.shape[1])
    return _scaled(left.float(), e8m0_scale(scale)) @ _scaled(numbers.float(), e8m0_scale(of_rows)).t()


def _mxfp8_scaled(tokens: Tensor, numbers: Tensor, block_scale: Tensor) -> Tensor:
    left, scale = _mx_tokens(tokens, numbers.shape[1])
    ours, theirs = (one.view(torch.float8_e8m0fnu) for one in (in_tiles(scale), block_scale))
    return torch._scaled_mm(left, numbers.t(), scale_a=ours, scale_b=theirs, out_dtype=torch.bfloat16)


def _nv_tokens(tokens: Tensor, columns: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return tokens as packed e2m1 numbers, e4m3 scales (M, columns / 16), and a factor for each token."""
    tokens, factor = per_token(tokens, _E4M3 * _E2M1)
    blocks = _blocks(tokens, columns, 16)
    scale = (torch.linalg.vector_norm(blocks, math.inf, dim=2) / _E2M1).to(torch.float8_e4m3fn)
    by_block = scale.float().clamp(min=torch.finfo(torch.float32).tiny)[..., None]
    return to_e2m1((blocks / by_block).flatten(1)), scale, factor


def _nvfp4_reference(tokens: Tensor, numbers: Tensor, block_scale: Tensor, factor: Tensor) -> Tensor:
    left, scale, of_token = _nv_tokens(tokens, 2 * numbers.shape[1])
    of_rows = in_order(block_scale, len(numbers), scale.shape[1]).contiguous().view(torch.float8_e4m3fn)
    right = _scaled(from_e2m1(numbers), of_rows.float())
    return (_scaled(from_e2m1(left), scale.float()) @ right.t()).mul_(of_token).mul_(factor)


def _nvfp4_scaled(tokens: Tensor, numbers: Tensor, block_scale: Tensor, factor: Tensor) -> Tensor:
    """Both sides have the even number in the high bits, so each pair is multiplied in the other order."""
    left, scale, of_token = _nv_tokens(tokens, 2 * numbers.shape[1])
    packed, turned = (one.view(torch.float4_e2m1fn_x2) for one in (left, numbers))
    ours, theirs = (one.view(torch.float8_e4m3fn) for one in (in_tiles(scale.view(torch.uint8)), block_scale))
    sums = torch._scaled_mm(packed, turned.t(), scale_a=ours, scale_b=theirs, out_dtype=torch.bfloat16)
    return sums.float().mul_(of_token).mul_(factor)


def _scaled(numbers: Tensor, scales: Tensor) -> Tensor:
    """Multiply each block of a row by its scale. scales: (rows, blocks)."""
    return (numbers.reshape(*scales.shape, -1) * scales[..., None]).flatten(1)


def _blocks(tokens: Tensor, columns: int, along: int) -> Tensor:
    """Return tokens, padded with zeros to `columns`, as (M, blocks, along)."""
    return F.pad(tokens, (0, columns - tokens.shape[1])).reshape(len(tokens), -1, along)


WAYS = {
    "int8 on a CPU": ProductWay("int8", _int8_reference),
    "fp8 on a CPU": ProductWay("fp8", _fp8_reference),
    "mxfp8 on a CPU": ProductWay("mxfp8", _mxfp8_reference),
    "nvfp4 on a CPU": ProductWay("nvfp4", _nvfp4_reference),
    "comfy-kitchen of int8": ProductWay("int8", kitchen.int8, (7, 5), 16, kitchen.INT8),
    "torch._int_mm": ProductWay("int8", _int8, (7, 5), 8),
    "torch._scaled_mm by row": ProductWay("fp8", _fp8_scaled, (8, 9), 16),
    "torch._scaled_mm": ProductWay("fp8", _fp8_unscaled, (8, 9), 16),
    "comfy-kitchen of mxfp8": ProductWay("mxfp8", kitchen.mxfp8, (10, 0), 32, kitchen.MXFP8),
    "torch._scaled_mm of mxfp8": ProductWay("mxfp8", _mxfp8_scaled, (10, 0), 32),
    "comfy-kitchen of nvfp4": ProductWay("nvfp4", kitchen.nvfp4, (10, 0), 32, kitchen.NVFP4),
    "torch._scaled_mm of nvfp4": ProductWay("nvfp4", _nvfp4_scaled, (10, 0), 32),
}
"""By name, the one to try first before the others of its product. The references have no capability.

comfy-kitchen's come first because they quantise tokens in one kernel. It has none for fp8 with row scales.
"""


def way_candidates(product: StoredProduct, facts: DeviceFacts) -> tuple[str, ...]:
    """Return the names of the ways that such a device may have."""
    return tuple(
        name
        for name, way in WAYS.items()
        if way.product == product
        and (
            facts.kind == "cpu"
            if way.capability is None
            else facts.capability is not None and facts.capability >= way.capability
        )
    )


def choose_way(
    product: StoredProduct,
    device: torch.device,
    sides: tuple[int, ...] = (),
    *,
    facts: DeviceFacts | None = None,
    why_not: Callable[[str, torch.device], str | None] | None = None,
) -> tuple[str | None, str]:
    """Return the way in which a device computes a product, or None and the reason.

    sides:          rows and columns of the matrix, as stored.
    facts, why_not: of the device; asked if not given.
    """

    def refusal(name: str) -> str | None:
        multiple = WAYS[name].multiple
        if any(side % multiple for side in sides):
            return f"needs rows and columns in multiples of {multiple}, not {sides}"
        return (why_not or _why_not)(name, device)

    names = way_candidates(product, facts_of(device) if facts is None else facts)
    found, refused = first_that_runs(names, refusal)
    if found is not None:
        return found, ""
    if refused:
        return None, "; ".join(f"{name}: {reason}" for name, reason in refused.items())
    least = min(way.capability for way in WAYS.values() if way.product == product and way.capability)
    return None, f"needs an NVIDIA GPU of compute capability {'.'.join(map(str, least))} or higher"


@remembered
def _why_not(name: str, device: torch.device) -> str | None:
    """Return the error of a way on `device`, tried once on small tensors. None if it computes."""
    way = WAYS[name]
    if way.capability is None:
        return None
    if way.kitchen and (reason := kitchen.why_not_kitchen(way.kitchen)) is not None:
        return reason
    reference = next(
        other for other in WAYS.values() if other.product == way.product and not other.capability
    )
    with torch.inference_mode():
        tokens, parts = _sample(way.product, device)
        found, wanted = way.multiply(tokens.clone(), *parts), reference.multiply(tokens, *parts)
        apart = (found.float() - wanted.float()).norm() / wanted.float().norm()
    return None if float(apart) < _MOST_APART else "gives wrong results"


def _sample(product: StoredProduct, device: torch.device) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return tokens (40, 128) and the parts of a matrix (64, 128) with different scales in each row."""
    generator = torch.Generator().manual_seed(0)
    tokens, weight = torch.randn(40, 128, generator=generator), torch.randn(64, 128, generator=generator)
    parts = quantised_matrix(product, weight * torch.linspace(0.5, 2, 64)[:, None])
    return tokens.to(device), tuple(part.to(device) for part in parts)


def quantised_matrix(product: StoredProduct, weight: Tensor) -> tuple[Tensor, ...]:
    """Return the parts of a float32 matrix (out, in), as `Multiply` takes them, for a trial or a benchmark.

    Both sides are multiples of 32. nvfp4 has a scale for each row, which is left out: its factor is 1.
    """
    if product == "mxfp8":
        numbers, scale = _mx_tokens(weight, weight.shape[1])
        return numbers, in_tiles(scale)
    if product == "nvfp4":
        numbers, scale, _ = _nv_tokens(weight.clone(), weight.shape[1])
        return numbers, in_tiles(scale.view(torch.uint8)), torch.ones((), device=weight.device)
    largest, dtype = (_INT8, torch.int8) if product == "int8" else (_E4M3, torch.float8_e4m3fn)
    scaled, scale = per_token(weight.clone(), largest)
    return (scaled.round_() if product == "int8" else scaled).to(dtype), scale.flatten()
