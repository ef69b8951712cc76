"""Assigns audio to frames: 50 vectors per second from wav2vec 2.0 become one per video frame.

Follows wan/modules/s2v/audio_encoder.py of Wan-Video/Wan2.2: first linear interpolation to 30 per second,
then the nearest of these for each frame (`get_audio_embed_bucket_fps` with m = 0).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["frame_features"]

_HEARD_FPS, _BETWEEN_FPS = 50, 30


def frame_features(states: Tensor, fps: int, frames: int) -> Tensor:
    """Convert (layers, moments, D) to (1, layers, D, frames), with zeros after the end of the audio."""
    between = max(int(states.shape[1] / _HEARD_FPS * _BETWEEN_FPS), 1)
    at_30 = functional.interpolate(states.transpose(1, 2), size=between, mode="linear", align_corners=True)
    times = np.linspace(0, frames / fps, frames, endpoint=False)
    nearest = torch.from_numpy(np.round(times * _BETWEEN_FPS).astype(np.int64))
    chosen = at_30[:, :, nearest.clamp(max=between - 1)]
    chosen[:, :, nearest >= between] = 0
    return chosen[None]
