"""The operations of a block as one formula each, for `torch.compile`, which fuses them.

Without compilation they would make float32 copies of all tensors.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from torch import Tensor

from .operations import Operations, Project, Rope, no_table, rms_silu

__all__ = ["traceable_operations"]


def traceable_operations() -> Operations:
    return Operations("compiled", _norm, _gated, _gated_norm, _turned, _gelu_linear, no_table, rms_silu)


def _norm(hidden: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    normed = F.layer_norm(hidden.float(), hidden.shape[-1:], None, None, eps)
    return (_per_row(normed, weight) * weight.unsqueeze(2) + bias.unsqueeze(2)).flatten(1, 2).to(hidden.dtype)


def _gated(hidden: Tensor, update: Tensor, gate: Tensor | None) -> Tensor:
    if gate is None:
        return hidden + update
    added = (_per_row(update.float(), gate) * gate.unsqueeze(2)).flatten(1, 2)
    return (hidden.float() + added).to(hidden.dtype)


def _gated_norm(
    hidden: Tensor, update: Tensor, gate: Tensor | None, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    total = _gated(hidden, update, gate)
    return total, _norm(total, weight, bias, eps)


def _turned(project: Project, weight: Tensor, eps: float, heads: int, rope: Rope) -> Tensor:
    projection = project()
    numbers = projection.float()
    numbers = numbers * torch.rsqrt(numbers.square().mean(-1, keepdim=True) + eps) * weight.float()
    first, second = torch.unflatten(numbers, 2, (heads, -1, 2)).unbind(-1)
    cos, sin = rope.cos.unsqueeze(1), rope.sin.unsqueeze(1)
    pairs = torch.stack((first * cos - second * sin, first * sin + second * cos), -1)
    return pairs.flatten(-2).to(projection.dtype)


def _gelu_linear(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.gelu(F.linear(hidden, weight, bias), approximate="tanh")


def _per_row(tokens: Tensor, rows: Tensor) -> Tensor:
    """Reshape (B, N, D) to (B, R, N / R, D)."""
    return torch.unflatten(tokens, 1, (rows.shape[-2], -1))
