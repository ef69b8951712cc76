"""A linear layer that computes on the numbers of its file, with its LoRAs as a product beside it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..kernels.stored_products import TOKENS_AT_ONCE, WAYS, StoredLayer
from ..weights.quantised_tensor import unrotated
from ..weights.stored_parts import LORA_DOWN, LORA_UP, SMOOTHING, stored_dtypes

__all__ = ["StoredLinear", "replace_linears", "stored_working_bytes"]


class StoredLinear(nn.Module):
    """Takes the place of an nn.Linear. Its parameters are the parts of its `StoredLayer`, and the bias."""

    def __init__(self, layer: StoredLayer, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.layer, self.multiply = layer, WAYS[layer.way].multiply
        self.bias = bias
        for name, shape in layer.parts:
            empty = torch.empty(shape, dtype=stored_dtypes(name), device="meta")
            self.register_parameter(name, nn.Parameter(empty, requires_grad=False))
        names = [name for name, _ in layer.parts]
        self._operands = [name for name in names if name not in (LORA_DOWN, LORA_UP, SMOOTHING)]
        self._smooths = SMOOTHING in names

    def forward(self, hidden: Tensor, out: Tensor | None = None) -> Tensor:
        """Return the product with `hidden` (..., in), in its dtype; contiguous. out: where to write it."""
        tokens = hidden.flatten(0, -2)
        total = hidden.new_empty(*hidden.shape[:-1], self.layer.shape[0]) if out is None else out
        rows = total.view(len(tokens), -1)
        for start in range(0, len(tokens), TOKENS_AT_ONCE):
            rows[start : start + TOKENS_AT_ONCE] = self._product(tokens[start : start + TOKENS_AT_ONCE])
        return total

    def _product(self, tokens: Tensor) -> Tensor:
        """Return the product with some tokens (M, in), float32, rounded nowhere before the end."""
        entering = tokens.to(torch.float32, copy=True)
        if self._smooths:
            entering *= getattr(self, SMOOTHING)
        if self.layer.rotation:  # as the columns of the matrix are; the rotation is its own inverse
            entering = unrotated(entering, self.layer.rotation)
        made = self.multiply(entering, *(getattr(self, name) for name in self._operands))
        made = made[:, : self.layer.shape[0]].float()  # rows may be padded
        if self.bias is not None:
            made += self.bias
        if self.layer.rank:
            made += tokens @ getattr(self, LORA_DOWN).t() @ getattr(self, LORA_UP).t()
        return made


def replace_linears(network: nn.Module, stored: Mapping[str, StoredLayer]) -> None:
    """Make the named layers of a network on the meta device compute on stored numbers."""
    for name, layer in stored.items():
        owner, _, attribute = name.rpartition(".")
        bias = dict(network.get_submodule(name).named_parameters()).get("bias")
        setattr(network.get_submodule(owner), attribute, StoredLinear(layer, bias))


def stored_working_bytes(stored: Mapping[str, StoredLayer], tokens: int) -> int:
    """Return the most bytes that one of these layers needs beside its input and result."""
    return max((_working_bytes(layer, min(tokens, TOKENS_AT_ONCE)) for layer in stored.values()), default=0)


def _working_bytes(layer: StoredLayer, tokens: int) -> int:
    """Count the tokens in float32 and while they become e2m1, or the sums in int32 and float32.

    A reference also decodes the weight, to one float64 or two float32 tensors.
    """
    out, into = layer.shape
    weight = 8 * out * into if WAYS[layer.way].capability is None else 0
    return tokens * max(24 * into, 9 * out) + weight
