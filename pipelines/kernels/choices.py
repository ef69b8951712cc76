"""Chooses between implementations that differ by rounding only. The choice is made once and recorded.

Only Sage is less exact. Equal choices give equal bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch

from ..errors import ModelError
from .attention import attention_candidates, why_not
from .fused import fused_operations
from .kernel_names import ATTENTIONS, KERNELS, Attention, Kernels
from .operations import Operations, Rope, kitchen_operations, plain_operations
from .traceable import traceable_operations
from .trial import DeviceFacts, facts_of, first_that_runs, remembered

__all__ = [
    "FloatChoices",
    "KernelChoice",
    "Preferences",
    "Trials",
    "kernel_candidates",
    "operations_of",
    "why_not_kernels",
]


@dataclass(frozen=True)
class KernelChoice:
    """The kernels for the element-wise work of one network.

    refused: the faster kernels that do not run here, each with the reason. Changes nothing.
    """

    kernels: Kernels
    refused: Mapping[Kernels, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        _require_known("kernels", self.kernels, KERNELS)

    def text(self) -> str:
        """Describe the choice in a few words."""
        reasons = "; ".join(f"{name}: {reason}" for name, reason in self.refused.items())
        return f"{self.kernels} kernels (not {reasons})" if reasons else f"{self.kernels} kernels"


@dataclass(frozen=True)
class FloatChoices:
    """How the blocks of one transformer compute.

    attention:    a kernel of `attention.ATTENTIONS`.
    kernels:      the implementation of the element-wise operations.
    chunk_tokens: tokens that all but attention process at a time; 0 for all at once.
    compiler:     a backend of torch.compile for the block, or None. One graph serves all blocks and experts.
    refused:      faster kernels that do not run here, with the reason. Has no effect on the result.
    """

    attention: Attention = "sdpa"
    kernels: Kernels = "plain"
    chunk_tokens: int = 0
    compiler: str | None = None
    refused: Mapping[Kernels, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        _require_known("attention", self.attention, ATTENTIONS)
        _require_known("kernels", self.kernels, KERNELS)
        if self.chunk_tokens < 0:
            raise ModelError(f"chunk_tokens: {self.chunk_tokens} is negative; give tokens per chunk, or 0")

    @property
    def lossy(self) -> bool:
        return self.attention == "sage"

    def operations(self) -> Operations:
        """Return the element-wise operations. Raises ModelError if the kernels are not installed."""
        if self.compiler is not None and self.kernels == "plain":
            return _made("traceable")  # type: ignore[return-value]
        return operations_of(self.kernels)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values, from which `Preferences` makes the same choices."""
        return {name: value for name, value in asdict(self).items() if name != "refused"}

    def text(self) -> str:
        """Return one line of text."""
        parts = [
            f"{self.attention} attention{' (lossy)' if self.lossy else ''}",
            KernelChoice(self.kernels, self.refused).text(),
        ]
        if self.chunk_tokens:
            parts.append(f"chunks of {self.chunk_tokens} tokens")
        if self.compiler is not None:
            parts.append(f"blocks compiled with {self.compiler}")
        return ", ".join(parts)


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


def operations_of(kernels: Kernels) -> Operations:
    """Return the operations of these kernels. Raises ModelError if they are unknown or not installed."""
    _require_known("kernels", kernels, KERNELS)
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


@dataclass(frozen=True)
class Preferences:
    """The choices that the user made. None selects the fastest that runs on the device.

    The fields are those of FloatChoices. compiler: None compiles nothing, because it saves little with our
    kernels. vae: the kernels of the VAE, once decided; None tries `kernels` in the dtype of the VAE.

    Raises ModelError for a name that does not exist.
    """

    attention: Attention | None = None
    kernels: Kernels | None = None
    chunk_tokens: int | None = None
    compiler: str | None = None
    vae: KernelChoice | None = None

    def __post_init__(self) -> None:
        if self.attention is not None:
            _require_known("attention", self.attention, ATTENTIONS)
        if self.kernels is not None:
            _require_known("kernels", self.kernels, KERNELS)

    def resolve(
        self,
        device: torch.device,
        dtype: torch.dtype,
        *,
        head_width: int = 128,
        chunk_tokens: int = 0,
        trials: Trials = TRIALS,
    ) -> FloatChoices:
        """Return the choices for a device. chunk_tokens: used if the user set none.

        Raises ModelError if a requested kernel does not run on the device.
        """
        attention = self.attention
        if attention is None:
            candidates = attention_candidates(trials.facts(device), dtype)
            found, _ = first_that_runs(
                candidates, lambda name: trials.attention(name, device, dtype, head_width)
            )
            attention = found or "sdpa"
        else:
            reason = trials.attention(attention, device, dtype, head_width)
            _require(f"attention: {attention}", reason, device)
        if self.compiler is not None:
            _require(f"compile: {self.compiler}", trials.compiler(self.compiler, device), device)
        chosen = self.kernels_on(device, dtype, trials=trials)
        chunk = chunk_tokens if self.chunk_tokens is None else self.chunk_tokens
        return FloatChoices(attention, chosen.kernels, chunk, self.compiler, chosen.refused)

    def kernels_on(
        self, device: torch.device, dtype: torch.dtype, *, trials: Trials = TRIALS
    ) -> KernelChoice:
        """Choose only the kernels: those that the user set, else the fastest that run.

        Raises ModelError if the kernels that the user set do not run on the device.
        """
        if self.kernels is not None:
            _require(f"kernels: {self.kernels}", trials.kernels(self.kernels, device, dtype), device)
            return KernelChoice(self.kernels)
        found, refused = first_that_runs(
            kernel_candidates(trials.facts(device)), lambda name: trials.kernels(name, device, dtype)
        )
        return KernelChoice(found or "plain", refused)

    def vae_kernels_on(
        self, device: torch.device, dtype: torch.dtype, *, trials: Trials = TRIALS
    ) -> KernelChoice:
        """Choose the kernels of the VAE, which may have another device and dtype than the experts.

        Raises ModelError if the kernels that were set or decided do not run on the device.
        """
        if self.vae is None:
            return self.kernels_on(device, dtype, trials=trials)
        replace(self, kernels=self.vae.kernels).kernels_on(device, dtype, trials=trials)
        return self.vae


def _require_known(field_name: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        raise ModelError(f"{field_name}: {name!r} is unknown; give one of {', '.join(names)}")


def _require(what: str, reason: str | None, device: torch.device) -> None:
    if reason is not None:
        raise ModelError(
            f"{what} does not run on {device} here: {reason}; leave the option out to use one that does"
        )


def _sum(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return one + other
