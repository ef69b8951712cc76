"""Interpolates frames with a network. RIFE, FILM and ComfyUI's own models use this."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from ..video.frame_stream import Frame
from ..video.frames import to_tensor, to_uint8

__all__ = ["FrameNet", "NetworkInterpolator"]


class FrameNet(Protocol):
    """A network that processes every frame once, and then generates frames between two of them."""

    @property
    def alignment(self) -> int:
        """Width and height of a frame must be multiples of this, in pixels."""

    def prepare(self, image: Tensor) -> Any:
        """Convert a frame (1, 3, H, W) in [0, 1], float32, to what `interpolate` needs of it."""

    def interpolate(self, before: Any, after: Any, times: Sequence[float]) -> Iterable[Tensor]:
        """Yield (1, 3, H, W) in about [0, 1] for each of `times`, ascending, 0 < t < 1."""


class NetworkInterpolator:
    """An `Interpolator` with a network on `device`.

    It keeps the features of the last frame for the next pair.
    """

    def __init__(self, net: FrameNet, device: torch.device) -> None:
        self._net, self._device = net, device
        self._last: tuple[Frame, Any] | None = None

    @torch.inference_mode()
    def between(self, a: Frame, b: Frame, times: Sequence[float]) -> list[Frame]:
        """Yield the frames at `times` (0 = a, 1 = b), one at a time, so more `times` need no more memory."""
        before = self._last[1] if self._last is not None and self._last[0] is a else self._prepare(a)
        self._last = None  # frees what is no longer needed before the next frame is looked at
        after = self._prepare(b)
        height, width = a.shape[:2]
        images = self._net.interpolate(before, after, times)
        frames = [to_uint8(image[0, :, :height, :width], low=0.0) for image in images]
        self._last = b, after
        return frames

    def _prepare(self, frame: Frame) -> Any:
        height, width = frame.shape[:2]
        right, below = -width % self._net.alignment, -height % self._net.alignment
        # The border goes on: black would bleed into the image.
        image = functional.pad(to_tensor(frame, self._device), (0, right, 0, below), mode="replicate")
        return self._net.prepare(image)
