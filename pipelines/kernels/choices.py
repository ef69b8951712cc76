"""Which of the equally exact ways to compute a run takes, decided once and written down.

All choices but Sage are of the float class: results differ by rounding only. Equal choices give equal bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import torch

from ..errors import ModelError
from .attention import best_attention, why_not
from .fused import fused_operations, triton_works
from .names import ATTENTIONS, Attention, Kernels
from .operations import Operations, kitchen_operations, plain_operations
from .traceable import traceable_operations

__all__ = ["FloatChoices", "Wishes"]


@dataclass(frozen=True)
class FloatChoices:
    """How the blocks of one transformer compute.

    attention:    a kernel of `attention.ATTENTIONS`.
    kernels:      who does the element-wise work.
    chunk_tokens: all but attention on so many tokens at a time; 0 for all at once.
    compiler:     a backend of torch.compile for the block, or None. One graph serves all blocks and experts.
    """

    attention: Attention = "sdpa"
    kernels: Kernels = "plain"
    chunk_tokens: int = 0
    compiler: str | None = None

    def __post_init__(self) -> None:
        if self.attention not in ATTENTIONS:
            raise ModelError(f"attention: {self.attention!r}; one of {', '.join(ATTENTIONS)} works")
        if self.chunk_tokens < 0:
            raise ModelError(f"chunk_tokens: {self.chunk_tokens}; give 0, or the tokens of a chunk")

    @property
    def lossy(self) -> bool:
        return self.attention == "sage"

    def operations(self) -> Operations:
        """Raises ModelError when the kernels are not installed."""
        if self.compiler is not None and self.kernels == "plain":
            return _made("traceable")  # type: ignore[return-value]
        made = _made(self.kernels)
        if made is None:
            raise ModelError(f"kernels: {self.kernels} is not installed here; take plain")
        return made

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def text(self) -> str:
        """One line for people."""
        parts = [
            f"attention by {self.attention}{' (lossy)' if self.lossy else ''}",
            f"{self.kernels} kernels",
        ]
        if self.chunk_tokens:
            parts.append(f"{self.chunk_tokens} tokens at a time")
        if self.compiler is not None:
            parts.append(f"blocks compiled by {self.compiler}")
        return ", ".join(parts)


_MAKERS: dict[str, Callable[[], Operations | None]] = {
    "plain": plain_operations,
    "kitchen": kitchen_operations,
    "triton": fused_operations,
    "traceable": traceable_operations,
}


@lru_cache(maxsize=len(_MAKERS))
def _made(kernels: str) -> Operations | None:
    """One object each: a compiled block is made for the functions in it."""
    return _MAKERS[kernels]()


@dataclass(frozen=True)
class Wishes:
    """What somebody wants of the choices; None leaves one to what is quickest on the device.

    Each as in FloatChoices. compiler: None is no compiler, for our kernels leave it little to save.
    """

    attention: Attention | None = None
    kernels: Kernels | None = None
    chunk_tokens: int | None = None
    compiler: str | None = None

    def granted(
        self, device: torch.device, dtype: torch.dtype, *, head_width: int = 128, chunk_tokens: int = 0
    ) -> FloatChoices:
        """chunk_tokens: where nobody wants another.

        Raises ModelError when what is wanted does not exist or does not run on the device.
        """
        if self.attention in ATTENTIONS:  # FloatChoices refuses another name
            _require(
                f"attention: {self.attention}", why_not(self.attention, device, dtype, head_width), device
            )
        if self.compiler is not None:
            _require(f"compile: {self.compiler}", _why_not_compiled(self.compiler, device), device)
        return FloatChoices(
            self.attention or best_attention(device, dtype, head_width),
            self.kernels or _best_kernels(device),
            chunk_tokens if self.chunk_tokens is None else self.chunk_tokens,
            self.compiler,
        )


def _require(what: str, reason: str | None, device: torch.device) -> None:
    if reason is not None:
        raise ModelError(
            f"{what} does not run on {device} here: {reason}; leave it out, or run where it does"
        )


@lru_cache(maxsize=8)
def _why_not_compiled(backend: str, device: torch.device) -> str | None:
    """What a compiler says that lacks something, such as a C++ compiler or triton; tried on one sum."""
    try:
        torch.compile(_sum, backend=backend)(*torch.ones(2, 4, device=device))
    except Exception as error:
        return str(error).strip().partition("\n")[0] or type(error).__name__
    return None


def _sum(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return one + other


def _best_kernels(device: torch.device) -> Kernels:
    if device.type != "cuda" or torch.version.hip:
        return "plain"
    if triton_works():
        return "triton"
    return "plain" if kitchen_operations() is None else "kitchen"
