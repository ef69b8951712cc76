"""The network of RIFE 3.9: Huang et al., ECCV 2022. It draws the middle between two frames, and only that.

Each of three blocks sees the frames in both orders and takes the mean of its two answers, so that swapped
frames give the same picture. Version 3.8 has the same tensors and is run as 3.9, without the second look that
it takes at half the size where motion is fast.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ModelError
from .warp import warp

__all__ = ["Rife3Layout", "Rife3Net", "is_rife_3", "rife_3_layout"]

_SCALES = (4, 2, 1)  # how many times smaller than the frame each block sees it
_SEEN = 3 + 3 + 1 + 4  # channels that a block sees: both frames, mask, both flows
_STAGES = 4  # residual stages of a block, of two convolutions each

# Share of the gap between two frames by which a drawn frame may miss its time: the value of `--ratio` in
# ECCV2022-RIFE's inference_img.py. Halves, quarters, eighths, sixteenths and thirty-seconds are met exactly.
_NEAR = 0.02


@dataclass(frozen=True)
class Rife3Layout:
    """What a file says. width: channels of the blocks."""

    width: int

    @property
    def order(self) -> tuple[int, ...]:
        """A key that sorts newer layouts behind older ones."""
        return (len(_SCALES),)


def is_rife_3(names: Sequence[str]) -> bool:
    """Return whether names, from `rife_keys`, are of RIFE 3.8 or 3.9."""
    return "blocks.0.conv1.2.weight" in names


def rife_3_layout(shapes: Mapping[str, Sequence[int]]) -> Rife3Layout:
    """Return the layout of a file from the shapes of its tensors, by their names in `Rife3Net`.

    Raises ModelError if it has no width.
    """
    shape = shapes.get("blocks.0.conv0.1.0.weight", ())
    if not shape:
        raise ModelError("a RIFE 3 that is damaged: it has no blocks.0.conv0.1.0.weight")
    return Rife3Layout(shape[0])


class Rife3Net(nn.Module):
    """Names of the tensors are those of ECCV2022-RIFE's files, with lists for what those number by hand.

    The convolutions work in the dtype of the weights; frames, flow and mask stay float32.

    scale: below 1 lets the blocks see smaller images: faster, and larger motion is found, in less detail.
    """

    def __init__(self, layout: Rife3Layout, scale: float = 1.0) -> None:
        super().__init__()
        self.scales = [coarse / scale for coarse in _SCALES]
        self.blocks = nn.ModuleList(_Block(layout.width) for _ in _SCALES)

    @property
    def alignment(self) -> int:
        """Width and height of a frame must be multiples of this, in pixels."""
        return max(round(4 * self.scales[0]), 1)  # a block halves what it sees twice

    def prepare(self, image: Tensor) -> Tensor:
        """Return the frame (1, 3, H, W) in [0, 1] as it is, float32."""
        return image.float()

    def interpolate(self, before: Tensor, after: Tensor, times: Sequence[float]) -> Iterator[Tensor]:
        """Yield the frames at `times`, within 0.02 of the gap: (1, 3, H, W) each, float32.

        The gap is halved, and the half that holds a time again, until a middle is near enough.
        """
        return self._halved(before, after, times, _NEAR)

    def _halved(self, before: Tensor, after: Tensor, times: Sequence[float], near: float) -> Iterator[Tensor]:
        if not times:
            return
        middle = self(before, after)
        yield from self._halved(before, middle, [2 * t for t in times if t < 0.5 - near], 2 * near)
        yield from (middle for t in times if abs(t - 0.5) <= near)
        yield from self._halved(middle, after, [2 * t - 1 for t in times if t > 0.5 + near], 2 * near)

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Return the frame in the middle."""
        pair = torch.cat((before, after))  # (2, 3, H, W), and both flows likewise (2, 2, H, W)
        flow, mask = pair.new_zeros(2, 2, *pair.shape[-2:]), pair.new_zeros(1, 1, *pair.shape[-2:])
        moved = pair
        for block, scale in zip(self.blocks, self.scales, strict=True):
            change, told = block(moved, mask, flow, scale)
            swapped, told_swapped = block(moved.flip(0), -mask, flow.flip(0), scale)
            flow = flow + (change + swapped.flip(0)) / 2
            mask = mask + (told - told_swapped) / 2
            moved = warp(pair, flow)
        return torch.lerp(moved[1:], moved[:1], torch.sigmoid(mask))


class _Block(nn.Module):
    """One refinement of flow and mask."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv0 = nn.Sequential(_conv(_SEEN, width // 2, 2), _conv(width // 2, width, 2))
        for stage in range(_STAGES):
            setattr(self, f"convblock{stage}", nn.Sequential(_conv(width, width, 1), _conv(width, width, 1)))
        self.conv1, self.conv2 = _answer(width, 4), _answer(width, 1)

    def forward(self, pair: Tensor, mask: Tensor, flow: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Return the changes of both flows (2, 2, H, W) in pixels, and of the mask (1, 1, H, W)."""
        height, width = pair.shape[-2:]
        seen = torch.cat((_as_one(pair), mask, _as_one(flow) / scale), 1)
        smaller = _resized(seen, round(height / scale), round(width / scale))
        x = self.conv0(smaller.to(next(self.parameters()).dtype))
        for stage in range(_STAGES):
            x = self.get_submodule(f"convblock{stage}")(x) + x
        change, told = (_resized(last(x).float(), height, width) for last in (self.conv1, self.conv2))
        return change.reshape(2, 2, height, width) * scale, told


def _as_one(pair: Tensor) -> Tensor:
    """Convert (2, C, H, W) to (1, 2C, H, W)."""
    return pair.flatten(0, 1)[None]


def _conv(ins: int, outs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(ins, outs, 3, stride, 1), nn.PReLU(outs))


def _answer(width: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(width, width // 2, 4, 2, 1),
        nn.PReLU(width // 2),
        nn.ConvTranspose2d(width // 2, channels, 4, 2, 1),
    )


def _resized(x: Tensor, height: int, width: int) -> Tensor:
    return functional.interpolate(x, (height, width), mode="bilinear", align_corners=False)
