"""Prompt relay: each latent frame of a clip attends to the text of its part of the clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

from ..request.local_settings import LocalSettings
from ..request.prompt_ranges import latent_lengths
from ..request.timing import LATENT_STRIDE

__all__ = ["PromptRelay"]


@dataclass(frozen=True)
class PromptRelay:
    """Which latent frames see which text.

    latent_frames: how many belong to each text, in order.
    overlap:       latent frames on either side of a border that see both texts.
    """

    latent_frames: tuple[int, ...]
    overlap: int = 0

    def seen(self, tokens: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """Return the tokens that each latent frame sees of all texts together: (first, one behind the last).

        tokens: how many each text has.
        """
        ends, offsets = list(accumulate(self.latent_frames)), list(accumulate(tokens, initial=0))
        starts = [0, *ends[:-1]]
        return tuple(
            (
                offsets[sum(end + self.overlap <= frame for end in ends)],
                offsets[sum(start - self.overlap <= frame for start in starts)],
            )
            for frame in range(ends[-1])
        )

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values; `from_dict` gives an equal value back."""
        return {**asdict(self), "latent_frames": list(self.latent_frames)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PromptRelay:
        """Raises TypeError when keys are unknown."""
        return cls(**{**data, "latent_frames": tuple(data["latent_frames"])})

    @classmethod
    def of_local(cls, local: LocalSettings | None, num_frames: int, fps: float) -> PromptRelay | None:
        """Return the relay of a clip; None without `prompt_ranges`."""
        if local is None or not local.prompt_ranges:
            return None
        lengths = latent_lengths(local.prompt_ranges, num_frames, fps)
        return cls(lengths, local.prompt_overlap // LATENT_STRIDE)
