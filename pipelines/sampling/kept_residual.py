"""What the blocks between the first and the last added, kept from the last forward that computed them."""

from __future__ import annotations

from torch import Tensor

__all__ = ["KeptResidual"]


class KeptResidual:
    """One half of a BlockCache, for one condition. Hidden states are (B, tokens, width)."""

    def __init__(self) -> None:
        self.rest: Tensor | None = None
        self._after_first: Tensor | None = None

    def compute(self, after: Tensor) -> None:
        """Note that the blocks are computed now. after: hidden states after the first block."""
        self._after_first = after

    def before_last(self, hidden: Tensor) -> None:
        """Keep what the computed blocks added to the hidden states."""
        if self._after_first is not None:
            self.rest, self._after_first = hidden - self._after_first, None
