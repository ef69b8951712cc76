"""The motion frames of the speech model (the end of the previous clip), and the positions of all tokens.

Follows wan/modules/s2v/motioner.py (FramePackMotioner) and s2v_utils.py of Wan-Video/Wan2.2.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["MOTION_FRAMES", "MOTION_LATENTS", "FramePacker", "Grid", "rotary_tables"]

MOTION_FRAMES = 73  # `motion_frames` of the official wan/configs/wan_s2v_14B.py
_BUCKETS = (1, 2, 16)  # latent frames, from the nearest to the farthest: `zip_frame_buckets` there
MOTION_LATENTS = sum(_BUCKETS)
_THETA = 10000.0


class Grid(NamedTuple):
    """A box of tokens: positions in time, rows and columns, in patches of the video.

    A negative time is before the clip.
    """

    times: tuple[int, ...]
    rows: tuple[int, ...]
    columns: tuple[int, ...]

    @classmethod
    def of(cls, first: int, frames: int, rows: int, columns: int) -> Grid:
        """Return a grid with one token per patch."""
        return cls(tuple(range(first, first + frames)), tuple(range(rows)), tuple(range(columns)))


class FramePacker(nn.Module):
    """Encodes the frames before a clip as tokens, more coarsely the earlier they are.

    The latest latent frame is cut into patches of 2 x 2, the two before it into one of 2 x 4 x 4, the sixteen
    before those into four of 4 x 8 x 8.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        for name, scale in (("proj", 1), ("proj_2x", 2), ("proj_4x", 4)):
            patch = (scale, 2 * scale, 2 * scale)
            self.add_module(name, nn.Conv3d(channels, width, kernel_size=patch, stride=patch))

    def forward(self, motion: Tensor) -> tuple[Tensor, list[Grid]]:
        """Return the tokens (1, L, width) and their positions.

        motion: (1, C, MOTION_LATENTS, h, w), normalised.
        """
        height, width = motion.shape[-2:]
        far, middle, near = torch.split(motion, list(_BUCKETS[::-1]), dim=2)
        packed, grids, start = [], [], 0
        for part, name, scale in ((near, "proj", 1), (middle, "proj_2x", 2), (far, "proj_4x", 4)):
            packed.append(getattr(self, name)(part).flatten(2).transpose(1, 2))
            start += part.shape[2]
            rows, columns = (_spread(0, side // 2 - 1, side // 2 // scale) for side in (height, width))
            # Far patches stand for several frames and take the position of one, from the earliest on.
            times = _spread(start, start - part.shape[2] + 1, part.shape[2] // scale)
            grids.append(Grid(tuple(-time for time in times), rows, columns))
        return torch.cat(packed, dim=1), grids


def rotary_tables(grids: list[Grid], head_dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return cosines and sines (1, tokens, 1, head_dim), float32, each value twice, as diffusers expects.

    Angles are computed in float64. A third of the numbers encode rows, a third columns, the rest time.
    """
    side = 2 * (head_dim // 6)
    angles = torch.cat([_angles(grid, (head_dim - 2 * side, side, side)) for grid in grids])
    twice = angles.repeat_interleave(2, dim=1)[None, :, None]
    return twice.cos().float().to(device), twice.sin().float().to(device)


def _angles(grid: Grid, sizes: tuple[int, int, int]) -> Tensor:
    """Return the angles (tokens, head_dim / 2), float64, CPU."""
    shape = tuple(map(len, grid))
    parts = []
    for axis, (positions, size) in enumerate(zip(grid, sizes, strict=True)):
        speeds = _THETA ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
        turned = torch.tensor(positions, dtype=torch.float64)[:, None] * speeds
        view = [1, 1, 1, size // 2]
        view[axis] = shape[axis]
        parts.append(turned.view(view).expand(*shape, size // 2))
    return torch.cat(parts, dim=-1).flatten(0, 2)


def _spread(first: int, last: int, count: int) -> tuple[int, ...]:
    """Return `count` integers spread evenly from `first` to `last`, rounded towards zero."""
    return tuple(np.linspace(first, last, count).astype(int).tolist())
