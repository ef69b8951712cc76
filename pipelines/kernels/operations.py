"""The element-wise operations of a transformer block and of the VAE, which can be fused.

Each has a plain torch form in this file and, with triton or comfy-kitchen installed, a fused one. They differ
by rounding only.

Shapes: hidden states are (B, N, D). Their modulation (`weight`, `bias` and `gate`) is float32 (1 or B, R, D).
Each of its R rows is for N / R consecutive tokens: one row serves a whole clip, and F rows give each frame
its own timestep.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from torch import Tensor

__all__ = [
    "Operations",
    "Project",
    "Rope",
    "gelu_linear",
    "kitchen_operations",
    "no_table",
    "plain_operations",
    "rms_silu",
]

_AS_CUDA = ("cuda", "meta")  # no data: on meta the work of a GPU is counted


Project: TypeAlias = Callable[[], Tensor]
"""Computes the projection that `turned` rotates.

A function, because Python 3.10 keeps the arguments of a call alive until it returns: the projection itself
would stay in memory beside its norm.
"""


class Rope(NamedTuple):
    """Rotary positions.

    cos, sin: (N, head width / 2), float32. table: the same, in the form the operations need.
    """

    cos: Tensor
    sin: Tensor
    table: Tensor | None = None


@dataclass(frozen=True)
class Operations:
    """One implementation of the element-wise operations of a block.

    norm:        layer norm of the last dimension: (hidden, weight, bias, eps).
    gated:       hidden + update * gate; without a gate, hidden + update.
    gated_norm:  both in order: returns the sum, and the norm of the sum.
    turned:      RMS norm of (project(), weight, eps), then rotary embedding per head with `rope`, (B, N, D)
                 -> (B, N, heads, D / heads).
    turns_in_place: whether `turned` overwrites the projection.
    gelu_linear: gelu of linear, tanh form: (hidden, weight, bias).
    table:       converts cos and sin to the table of a Rope that `turned` needs.
    rms_silu:    for the VAE: (pixels (B, ..., C), gamma (C,), out) writes silu(x / |x| * sqrt(C) * gamma),
                 where every batch entry of `out` is contiguous.
    """

    name: str
    norm: Callable[[Tensor, Tensor, Tensor, float], Tensor]
    gated: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    gated_norm: Callable[[Tensor, Tensor, Tensor | None, Tensor, Tensor, float], tuple[Tensor, Tensor]]
    turned: Callable[[Project, Tensor, float, int, Rope], Tensor]
    gelu_linear: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    table: Callable[[Tensor, Tensor], Tensor | None]
    rms_silu: Callable[[Tensor, Tensor, Tensor], None]
    turns_in_place: bool = False


def plain_operations() -> Operations:
    """Return the operations in plain torch, for every device."""
    return Operations("plain", norm, gated, gated_norm, _turned, gelu_linear, no_table, rms_silu)


def kitchen_operations() -> Operations | None:
    """Return the plain operations with comfy-kitchen's rotary embedding. None if it is not installed."""
    try:
        from comfy_kitchen import apply_rope1
    except ImportError:
        return None

    def turned(project: Project, weight: Tensor, eps: float, heads: int, rope: Rope) -> Tensor:
        normed = torch.unflatten(_rms_norm(project(), weight, eps), 2, (heads, -1))
        rotated: Tensor = apply_rope1(normed, rope.table)
        return rotated

    return Operations("kitchen", norm, gated, gated_norm, turned, gelu_linear, _matrix_table, rms_silu)


def norm(hidden: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    width, rows = hidden.shape[-1:], weight.shape[-2]
    one_row = weight.numel() == width[0]
    if one_row and (hidden.dtype == torch.float32 or hidden.device.type == "cpu"):
        return F.layer_norm(hidden, width, weight.view(-1), bias.view(-1), eps)
    # Other devices have no layer norm of half-precision numbers with float32 weights.
    normed = torch.unflatten(F.layer_norm(hidden, width, None, None, eps), 1, (rows, -1))
    torch.addcmul(bias.unsqueeze(2), normed, weight.unsqueeze(2), out=normed)
    return normed.flatten(1, 2)


def gated(hidden: Tensor, update: Tensor, gate: Tensor | None) -> Tensor:
    if gate is None:
        return hidden + update
    rows = gate.shape[-2]
    if rows == 1:
        return torch.addcmul(hidden, update, gate, out=torch.empty_like(hidden))
    total = torch.empty_like(hidden)
    parts = [torch.unflatten(tensor, 1, (rows, -1)) for tensor in (hidden, update, total)]
    torch.addcmul(parts[0], parts[1], gate.unsqueeze(2), out=parts[2])
    return total


def gated_norm(
    hidden: Tensor, update: Tensor, gate: Tensor | None, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    total = gated(hidden, update, gate)
    return total, norm(total, weight, bias, eps)


def gelu_linear(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if hidden.device.type in _AS_CUDA and bias is not None and hidden.dtype != torch.float32:
        # cuBLASLt applies the tanh form in the epilogue of the product; a CPU would apply the other form.
        flat: Tensor = torch.ops.aten._addmm_activation(
            bias, hidden.flatten(0, -2), weight.t(), use_gelu=True
        )
        return flat.view(*hidden.shape[:-1], -1)
    return F.gelu(F.linear(hidden, weight, bias), approximate="tanh")


def _turned(project: Project, weight: Tensor, eps: float, heads: int, rope: Rope) -> Tensor:
    normed = torch.unflatten(_rms_norm(project(), weight, eps), 2, (heads, -1))
    first, second = torch.unflatten(normed, -1, (-1, 2)).unbind(-1)
    cos, sin = rope.cos.unsqueeze(1), rope.sin.unsqueeze(1)
    # Real numbers alone: DirectML has no complex ones, and MPS not everywhere. The bits are those of a
    # complex product: each real product is rounded on its own, which addcmul does not do, in float32 until
    # it is written. Two buffers of half the size serve all four products.
    part, other = first * cos, second * sin
    part -= other
    torch.mul(first, sin, out=other)
    first.copy_(part)
    torch.mul(second, cos, out=part)
    torch.add(other, part, out=second)
    return normed


def _rms_norm(hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
    return F.rms_norm(hidden, hidden.shape[-1:], weight, eps)


def rms_silu(pixels: Tensor, gamma: Tensor, out: Tensor) -> None:
    channels = pixels.shape[-1]
    # Its eps is inside the root of the mean; the stock norm instead limits the length to at least 1e-12.
    normed = F.rms_norm(pixels, (channels,), gamma, 1e-24 / channels)
    torch.ops.aten.silu.out(normed, out=out)


def no_table(cos: Tensor, sin: Tensor) -> None:
    """Return an empty table, for operations that use cos and sin directly."""
    del cos, sin


def _matrix_table(cos: Tensor, sin: Tensor) -> Tensor:
    """Return (1, N, 1, head width / 2, 2, 2) rotation matrices."""
    rows = torch.stack((torch.stack((cos, -sin), -1), torch.stack((sin, cos), -1)), -2)
    return rows[None, :, None]
