"""Dequantises the common block formats of ggml on the device that needs the numbers.

The package `gguf` dequantises every format on the CPU, which takes one to three minutes for a 14B expert.
These are the formats that nearly all files use, as torch operations with the same bits. Layouts: the
`block_*` structs of ggml/src/ggml-common.h.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..device.late_torch import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FORMATS", "numbers_of"]

_AT_ONCE = 2**20  # numbers; bounds what is needed beside the result


def numbers_of(raw: Tensor, kind: str) -> Tensor:
    """Dequantise all blocks in `raw`, (bytes,), uint8.

    Return (numbers,), float32, on the same device, in order.

    kind: a key of FORMATS.
    """
    block_numbers, block_bytes, undo = FORMATS[kind]
    blocks = raw.reshape(-1, block_bytes)
    numbers = torch.empty(len(blocks), block_numbers, dtype=torch.float32, device=raw.device)
    step = _AT_ONCE // block_numbers
    for start in range(0, len(blocks), step):
        part = blocks[start : start + step]
        numbers[start : start + step] = undo(part).reshape(len(part), block_numbers)
    return numbers.flatten()


def _unpacked(packed: Tensor, bits: int) -> Tensor:
    """Unpack (B, G, n) bytes of 8 / bits numbers each, low bits first, to (B, G, 8 / bits, n)."""
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device=packed.device).view(-1, 1)
    numbers: Tensor = (packed.unsqueeze(-2) >> shifts) & (2**bits - 1)
    return numbers


def _half(blocks: Tensor, at: int) -> Tensor:
    """Return the float16 number at a byte offset of every block, as (B, 1), float32."""
    return blocks[:, at : at + 2].contiguous().view(torch.float16).float()


def _four(blocks: Tensor, at: int) -> Tensor:
    """Return 32 numbers of 4 bits: the low halves of 16 bytes, then the high halves."""
    return _unpacked(blocks[:, None, at : at + 16], 4).flatten(1)


def _fifth(blocks: Tensor, at: int) -> Tensor:
    """Return the fifth bit of 32 numbers, shifted to bit 4."""
    return _unpacked(blocks[:, at : at + 4, None], 1).flatten(1) << 4


def _q8_0(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * blocks[:, 2:].contiguous().view(torch.int8)


def _q4_0(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * (_four(blocks, 2).float() - 8)


def _q4_1(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * _four(blocks, 4) + _half(blocks, 2)


def _q5_0(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * ((_four(blocks, 6) | _fifth(blocks, 2)).float() - 16)


def _q5_1(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * (_four(blocks, 8) | _fifth(blocks, 4)) + _half(blocks, 2)


def _scale_and_minimum(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Return scale and minimum of Q4_K and Q5_K for each of 8 groups, (B, 8, 1) each.

    They are packed as 6-bit numbers in 12 bytes.
    """
    first, second, shared = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scale = torch.cat([first & 63, (shared & 15) | (first >> 6 << 4)], 1)
    minimum = torch.cat([second & 63, (shared >> 4) | (second >> 6 << 4)], 1)
    return (_half(blocks, 0) * scale).unsqueeze(-1), (_half(blocks, 2) * minimum).unsqueeze(-1)


def _q4_k(blocks: Tensor) -> Tensor:
    scale, minimum = _scale_and_minimum(blocks)
    return scale * _unpacked(blocks[:, 16:].reshape(-1, 4, 32), 4).reshape(-1, 8, 32) - minimum


def _q5_k(blocks: Tensor) -> Tensor:
    scale, minimum = _scale_and_minimum(blocks)
    low = _unpacked(blocks[:, 48:].reshape(-1, 4, 32), 4).reshape(-1, 8, 32)
    high = _unpacked(blocks[:, 16:48].reshape(-1, 1, 32), 1).reshape(-1, 8, 32)
    return scale * (low | high << 4) - minimum


def _q6_k(blocks: Tensor) -> Tensor:
    low = _unpacked(blocks[:, :128].reshape(-1, 2, 64), 4).reshape(-1, 16, 16)
    high = _unpacked(blocks[:, 128:192].reshape(-1, 2, 32), 2).reshape(-1, 16, 16)
    scale = _half(blocks, 208) * blocks[:, 192:208].contiguous().view(torch.int8)
    return scale.unsqueeze(-1) * ((low | high << 4).float() - 32)


def _q3_k(blocks: Tensor) -> Tensor:
    low = _unpacked(blocks[:, 32:96].reshape(-1, 2, 32), 2).reshape(-1, 16, 16)
    high = _unpacked(blocks[:, :32].reshape(-1, 1, 32), 1).reshape(-1, 16, 16)
    four = _unpacked(blocks[:, 96:104].reshape(-1, 1, 8), 4).reshape(-1, 16)
    two = _unpacked(blocks[:, 104:108].reshape(-1, 1, 4), 2).reshape(-1, 16)
    scale = _half(blocks, 108) * ((four | two << 4).float() - 32)
    return scale.unsqueeze(-1) * ((low | high << 2).float() - 4)


def _q2_k(blocks: Tensor) -> Tensor:
    scale = (_half(blocks, 80) * (blocks[:, :16] & 15)).unsqueeze(-1)
    minimum = (_half(blocks, 82) * (blocks[:, :16] >> 4)).unsqueeze(-1)
    return scale * _unpacked(blocks[:, 16:80].reshape(-1, 2, 32), 2).reshape(-1, 16, 16) - minimum


# kind: (numbers of a block, bytes of a block, how it is undone)
FORMATS: dict[str, tuple[int, int, Callable[[Tensor], Tensor]]] = {
    "Q8_0": (32, 34, _q8_0),
    "Q4_0": (32, 18, _q4_0),
    "Q4_1": (32, 20, _q4_1),
    "Q5_0": (32, 22, _q5_0),
    "Q5_1": (32, 24, _q5_1),
    "Q2_K": (256, 84, _q2_k),
    "Q3_K": (256, 110, _q3_k),
    "Q4_K": (256, 144, _q4_k),
    "Q5_K": (256, 176, _q5_k),
    "Q6_K": (256, 210, _q6_k),
}
