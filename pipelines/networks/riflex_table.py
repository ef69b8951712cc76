"""Applies RIFLEx to the rotary table of a clip."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import ModelError
from ..plan.riflex import Riflex

__all__ = ["lower_frequency"]


def lower_frequency(cos: Tensor, sin: Tensor, riflex: Riflex, frames: int, in_time: int) -> None:
    """Replace the column of frequency `riflex.k` in place. The angles are computed in float64.

    cos, sin: (tokens, head width / 2); columns of time first, rows frame after frame.
    frames:   of tokens. in_time: how many columns are those of time.

    Raises ModelError if the network has no such frequency.
    """
    if riflex.k > in_time:
        raise ModelError(
            f"riflex: frequency {riflex.k}, but this network has {in_time} in time; give 1 to {in_time}"
        )
    angles = torch.arange(frames, dtype=torch.float64).mul(riflex.frequency)
    by_token = angles.repeat_interleave(len(cos) // frames)
    cos[:, riflex.k - 1] = by_token.cos().to(cos)
    sin[:, riflex.k - 1] = by_token.sin().to(sin)
