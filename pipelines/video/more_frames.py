"""Interpolates k new frames between each pair of frames, pair by pair.

n frames become n + max(n - 1, 0) * k. The original frames stay unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from ..progress import Progress
from .cuts import SCENE_THRESHOLD, frames_between, marked
from .frame_stream import Frame, FrameStream, close
from .frames import image_frames
from .image_tensor import flattened

__all__ = ["Interpolator", "interpolated", "interpolated_images"]


class Interpolator(Protocol):
    """Makes frames between two frames. One instance serves any number of clips and sizes."""

    def between(self, a: Frame, b: Frame, times: Sequence[float]) -> Sequence[Frame]:
        """Return a frame for each of `times`, which rise within 0 < t < 1. 0 is `a`, 1 is `b`."""


def interpolated(
    stream: FrameStream, interpolator: Interpolator, k: int, scene_threshold: float = SCENE_THRESHOLD
) -> FrameStream:
    """Yield `stream` with `k` new frames between each pair. Holds four frames and the new ones.

    Nothing is drawn across a cut (see `cuts`), nor between a frame and its repetition.

    k = 0 passes the frames on unchanged. Raises ValueError for k < 0.
    """
    if k < 0:
        raise ValueError(f"cannot add {k} frames between two; 0 or more works")
    if k == 0:
        return stream
    return _pairwise(stream, interpolator, [(i + 1) / (k + 1) for i in range(k)], scene_threshold)


def interpolated_images(
    images: Tensor,
    interpolator: Interpolator,
    k: int,
    progress: Progress,
    scene_threshold: float = SCENE_THRESHOLD,
) -> Tensor:
    """Interpolate a ComfyUI IMAGE (N, H, W, C) in [0, 1].

    Returns (N + (N - 1) k, H, W, 3) float32 on the CPU. The given images keep their exact values, over
    white where they are transparent. Only new frames have 8 bits per channel.
    """
    count = max(len(images) + (len(images) - 1) * k, 0)
    result = torch.empty(count, *images.shape[1:3], 3)
    result[:: k + 1] = flattened(images)
    progress.begin("interpolation", count, "frames")
    for index, frame in enumerate(interpolated(image_frames(images), interpolator, k, scene_threshold)):
        progress.check()
        if index % (k + 1):
            result[index] = torch.from_numpy(frame).float() / 255
        progress.advance(index + 1)
    return result


def _pairwise(
    stream: FrameStream, interpolator: Interpolator, times: Sequence[float], threshold: float
) -> FrameStream:
    before: Frame | None = None
    frames = marked(stream, lambda frame: frame, threshold)
    try:
        for frame, cut in frames:
            if before is not None:
                yield from frames_between(interpolator, before, frame, times, cut)
            yield frame
            before = frame
    finally:
        close(frames)
