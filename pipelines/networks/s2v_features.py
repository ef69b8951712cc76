"""Which sound belongs to which frame: 50 vectors a second from wav2vec 2.0 become one per video frame.

After Wan-Video/Wan2.2 wan/modules/s2v/audio_encoder.py: first 30 a second by linear interpolation, then the
nearest of these for each frame (`get_audio_embed_bucket_fps` with m = 0).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["frame_features"]

_HEARD_FPS, _BETWEEN_FPS = 50, 30


def frame_features(states: Tensor, fps: int, frames: int) -> Tensor:
    """(layers, moments, D) -> (1, layers, D, frames); zeros after the sound has ended."""
    between = max(int(states.shape[1] / _HEARD_FPS * _BETWEEN_FPS), 1)
    at_30 = functional.interpolate(states.transpose(1, 2), size=between, mode="linear", align_corners=True)
    times = np.linspace(0, frames / fps, frames, endpoint=False)
    nearest = torch.from_numpy(np.round(times * _BETWEEN_FPS).astype(np.int64))
    chosen = at_30[:, :, nearest.clamp(max=between - 1)]
    chosen[:, :, nearest >= between] = 0
    return chosen[None]
