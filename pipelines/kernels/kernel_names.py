"""The names of kernels that a user can choose. Importing this does not import torch."""

from __future__ import annotations

from typing import Literal

__all__ = ["ATTENTIONS", "COMPILER", "KERNELS", "Attention", "Kernels"]

Attention = Literal["flash3", "cudnn", "flash2", "sdpa", "sage"]
ATTENTIONS: tuple[Attention, ...] = ("flash3", "cudnn", "flash2", "sdpa", "sage")
Kernels = Literal["plain", "kitchen", "triton"]
KERNELS: tuple[Kernels, ...] = ("plain", "kitchen", "triton")
COMPILER = "inductor"  # the backend of torch.compile if the user names none
