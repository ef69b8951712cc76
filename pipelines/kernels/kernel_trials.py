"""Which kernels run on a device: tried once on small tensors, against plain torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch

from ..errors import ModelError
from .attention import why_not
from .compile_caches import keep_compiled
from .fused import fused_operations
from .kernel_names import KERNELS, Attention, Kernels, require_known
from .operations import Operations, Rope, kitchen_operations, plain_operations
from .traceable import traceable_operations
from .trial import DeviceFacts, facts_of, remembered

__all__ = ["TRIALS", "Trials", "kernel_candidates", "operations_of", "why_not_kernels"]

# As torch names them. Elsewhere triton's own error is "0 active drivers ([]). There should only be one."
_TRITON_DEVICES = ("cuda", "xpu")

_MAKERS: dict[str, Callable[[], Operations | None]] = {
    "plain": plain_operations,
    "kitchen": kitchen_operations,
    "triton": fused_operations,
    "traceable": traceable_operations,
}


@lru_cache(maxsize=len(_MAKERS))
def _made(kernels: str) -> Operations | None:
    """Create each set of operations once: a compiled block is specialised to its functions."""
    return _MAKERS[kernels]()


def operations_of(kernels: Kernels | Literal["traceable"]) -> Operations:
    """Return the operations of these kernels. Raises ModelError if they are unknown or not installed."""
    require_known("kernels", kernels, (*KERNELS, "traceable"))
    made = _made(kernels)
    if made is None:
        raise ModelError(f"kernels: the package for {kernels} is not installed; use plain")
    return made


def kernel_candidates(facts: DeviceFacts) -> tuple[Kernels, ...]:
    """Return the kernels for element-wise operations on such a device, fastest first."""
    return ("triton", "kitchen", "plain") if facts.kind == "cuda" and not facts.hip else ("plain",)


@remembered
def why_not_kernels(kernels: Kernels, device: torch.device, dtype: torch.dtype) -> str | None:
    """Return the error of kernels that do not run on `device`, tried once on small tensors. None if they run.

    An importable package is not enough: triton needs a C compiler for its launcher, and a device that is new
    enough.
    """
    if kernels == "plain":
        return None
    if kernels == "triton" and device.type not in _TRITON_DEVICES:
        return "triton computes only on GPUs of NVIDIA, AMD and Intel"
    made = _made(kernels)
    if made is None:
        return "not installed"
    for name, (found, expected) in _tried(made, plain_operations(), device, dtype).items():
        if not torch.allclose(found.float(), expected.float(), rtol=0.05, atol=0.05):
            return f"{name} gives wrong results"
    return None


@torch.inference_mode()
def _tried(
    made: Operations, plain: Operations, device: torch.device, dtype: torch.dtype
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return by name the result of each operation on small tensors, and the result of plain torch."""
    tokens, heads, width, eps = 4, 2, 32, 1e-6
    angles = torch.linspace(0, 3, tokens * width // heads // 2, device=device).view(tokens, -1)
    hidden = torch.linspace(-2, 2, tokens * width, device=device).view(1, tokens, width).to(dtype)
    row = torch.linspace(0.5, 1.5, width, device=device)
    rows, weight = row.view(1, 1, width), row.to(dtype)
    cos, sin = angles.cos(), angles.sin()
    answers: list[dict[str, torch.Tensor]] = []
    for do in (made, plain):
        pixels = torch.zeros_like(hidden)
        do.rms_silu(hidden, weight, pixels)
        turned = do.turned(hidden.clone, weight, eps, heads, Rope(cos, sin, do.table(cos, sin)))
        total, normed = do.gated_norm(hidden, hidden, rows, rows, rows, eps)
        answers.append(
            {
                "norm": do.norm(hidden, rows, rows, eps),
                "gate": do.gated(hidden, hidden, rows),
                "gate with norm": torch.stack((total, normed)),
                "norm with rotation": turned,
                "norm of the VAE": pixels,
            }
        )
    return {name: (answers[0][name], answers[1][name]) for name in answers[0]}


@remembered
def _why_not_compiled(backend: str, device: torch.device) -> str | None:
    """Return the error of torch.compile on a small sum, such as a missing C++ compiler or triton.

    None if it works.
    """
    keep_compiled()
    torch.compile(_sum, backend=backend)(*torch.ones(2, 4, device=device))
    return None


@dataclass(frozen=True)
class Trials:
    """What a choice depends on: the facts of a device, and the reasons why kernels do not run on it."""

    facts: Callable[[torch.device], DeviceFacts] = facts_of
    attention: Callable[[Attention, torch.device, torch.dtype, int], str | None] = why_not
    kernels: Callable[[Kernels, torch.device, torch.dtype], str | None] = why_not_kernels
    compiler: Callable[[str, torch.device], str | None] = _why_not_compiled


TRIALS = Trials()


def _sum(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return one + other
