"""The choice between implementations that differ by rounding only. It is made once and recorded.

Only Sage is less exact. Equal choices give equal bits. Importing this does not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from .kernel_names import ATTENTIONS, KERNELS, Attention, Kernels, require_known

if TYPE_CHECKING:
    import torch

    from .kernel_trials import Trials
    from .operations import Operations

__all__ = ["FloatChoices", "KernelChoice", "Preferences"]


@dataclass(frozen=True)
class KernelChoice:
    """The kernels for the element-wise work of one network.

    refused: the faster kernels that do not run here, each with the reason. Changes nothing.
    """

    kernels: Kernels
    refused: Mapping[Kernels, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        require_known("kernels", self.kernels, KERNELS)

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
        require_known("attention", self.attention, ATTENTIONS)
        require_known("kernels", self.kernels, KERNELS)
        if self.chunk_tokens < 0:
            raise ModelError(f"chunk_tokens: {self.chunk_tokens} is negative; give tokens per chunk, or 0")

    @property
    def lossy(self) -> bool:
        return self.attention == "sage"

    def operations(self) -> Operations:
        """Return the element-wise operations. Raises ModelError if the kernels are not installed."""
        from .kernel_trials import operations_of

        compiled = self.compiler is not None and self.kernels == "plain"
        return operations_of("traceable" if compiled else self.kernels)

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
            require_known("attention", self.attention, ATTENTIONS)
        if self.kernels is not None:
            require_known("kernels", self.kernels, KERNELS)

    def resolve(
        self,
        device: torch.device,
        dtype: torch.dtype,
        *,
        head_width: int = 128,
        chunk_tokens: int = 0,
        trials: Trials | None = None,
    ) -> FloatChoices:
        """Return the choices for a device. chunk_tokens: used if the user set none.

        Raises ModelError if a requested kernel does not run on the device.
        """
        from .attention import attention_candidates
        from .kernel_trials import TRIALS
        from .trial import first_that_runs

        trials, attention = trials or TRIALS, self.attention
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
        self, device: torch.device, dtype: torch.dtype, *, trials: Trials | None = None
    ) -> KernelChoice:
        """Choose only the kernels: those that the user set, else the fastest that run.

        Raises ModelError if the kernels that the user set do not run on the device.
        """
        from .kernel_trials import TRIALS, kernel_candidates
        from .trial import first_that_runs

        trials = trials or TRIALS
        if self.kernels is not None:
            _require(f"kernels: {self.kernels}", trials.kernels(self.kernels, device, dtype), device)
            return KernelChoice(self.kernels)
        found, refused = first_that_runs(
            kernel_candidates(trials.facts(device)), lambda name: trials.kernels(name, device, dtype)
        )
        return KernelChoice(found or "plain", refused)

    def vae_kernels_on(
        self, device: torch.device, dtype: torch.dtype, *, trials: Trials | None = None
    ) -> KernelChoice:
        """Choose the kernels of the VAE, which may have another device and dtype than the experts.

        Raises ModelError if the kernels that were set or decided do not run on the device.
        """
        if self.vae is None:
            return self.kernels_on(device, dtype, trials=trials)
        replace(self, kernels=self.vae.kernels).kernels_on(device, dtype, trials=trials)
        return self.vae


def _require(what: str, reason: str | None, device: torch.device) -> None:
    if reason is not None:
        raise ModelError(
            f"{what} does not run on {device} here: {reason}; leave the option out to use one that does"
        )
