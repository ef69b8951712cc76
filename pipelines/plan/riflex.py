"""RIFLEx: one frequency of the rotary positions in time is lowered, so that a longer clip does not repeat.

Lossy by choice. Source: arxiv.org/abs/2502.15894.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import pi
from typing import Any

__all__ = ["Riflex"]

_PART_OF_A_PERIOD = 0.9  # thu-ml/RIFLEx, riflex_utils.py: a whole period still repeats in the last frames


@dataclass(frozen=True)
class Riflex:
    """k: the intrinsic frequency to lower; 1 is the highest. frames: the test length L, in latent frames."""

    k: int
    frames: int

    @property
    def frequency(self) -> float:
        """Radians per latent frame: 0.9 of 2 pi / L, which is equation 8 of the paper."""
        return _PART_OF_A_PERIOD * 2 * pi / self.frames

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values; `from_dict` gives an equal value back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Riflex:
        """Raises TypeError when keys are unknown."""
        return cls(**data)

    @classmethod
    def of_values(cls, values: Mapping[str, Any], frames: int, stride_t: int) -> Riflex | None:
        """Return the change among the resolved values; None without it.

        frames: latent frames of the longest forward. stride_t: pixel frames of a latent frame.
        """
        if not values.get("riflex"):
            return None
        asked = values["riflex_frames"]
        return cls(values["riflex"], frames if asked is None else (asked - 1) // stride_t + 1)
