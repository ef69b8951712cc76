"""The names of kernels that a user can choose. Importing this does not import torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ..errors import ModelError

__all__ = ["ATTENTIONS", "COMPILER", "KERNELS", "Attention", "Kernels", "require_known"]

Attention = Literal["flash3", "cudnn", "flash2", "sdpa", "sage"]
ATTENTIONS: tuple[Attention, ...] = ("flash3", "cudnn", "flash2", "sdpa", "sage")
Kernels = Literal["plain", "kitchen", "triton"]
KERNELS: tuple[Kernels, ...] = ("plain", "kitchen", "triton")
COMPILER = "inductor"  # the backend of torch.compile if the user names none


def require_known(field_name: str, name: str, names: Sequence[str]) -> None:
    """Raise ModelError that says which there are if `name` is none of `names`."""
    if name not in names:
        raise ModelError(f"{field_name}: {name!r} is unknown; give one of {', '.join(names)}")
