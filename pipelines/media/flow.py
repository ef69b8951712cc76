"""New frames between two, from optical flow alone: no weights, any device, the same bits every time.

The motion of every pixel is estimated in both directions (Lucas & Kanade 1981, coarse to fine, on luma), both
frames are pulled to the time in between, and each pixel is taken from the frame in which it can be seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .frames import Frame, to_uint8

__all__ = ["FlowInterpolator"]

_COARSEST = 12  # pixels on the short side of the smallest picture of the pyramid, at least
_ROUNDS = 4  # refinements of the flow per level
_RADIUS = 3  # of the window in which the motion is taken to be one translation
_SOLVES = 4  # rounds to find where a pixel came from
_SMOOTHNESS = (
    3e-5  # pull towards the neighbours' motion, squared luma per pixel; decides where there is no texture
)
_SURPRISE = 0.03  # luma difference from which a pixel counts little: it is likely covered in the other frame
_LUMA = (0.2126, 0.7152, 0.0722)  # ITU-R BT.709
_CUT_DIFFERENCE = 0.06  # mean luma change below which two frames are never taken for different shots
_CUT_LOST = 0.6  # share of pixels whose forward and backward motion must disagree for a cut


@dataclass(frozen=True)
class FlowInterpolator:
    """An `Interpolator` that needs no file. Works on `device` in float32."""

    device: str | torch.device = "cpu"

    @torch.inference_mode()
    def between(self, a: Frame, b: Frame, times: Sequence[float]) -> list[Frame]:
        """Frames at `times` (0 = a, 1 = b). Across a cut, the nearer of the two is repeated instead."""
        pair = torch.from_numpy(np.stack((a, b)))
        pair = pair.to(self.device).permute(0, 3, 1, 2).float() / 255
        luma = (pair * pair.new_tensor(_LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
        flows = _estimate(luma)
        if _is_cut(luma, flows):
            return [a.copy() if t < 0.5 else b.copy() for t in times]
        return [to_uint8(_render(pair, flows, t), low=0.0) for t in times]


def _estimate(luma: Tensor) -> Tensor:
    """(2, 1, H, W) -> (2, 2, H, W): motion a to b seen in a, and b to a seen in b, in pixels right, down."""
    pyramid = [luma]
    while min(pyramid[-1].shape[-2:]) >= 2 * _COARSEST:
        pyramid.append(_half(pyramid[-1]))
    flow = luma.new_zeros(2, 2, *pyramid[-1].shape[-2:])
    for here in reversed(pyramid):
        flow = _resized(flow, here.shape[-2], here.shape[-1])
        there = here.flip(0)
        slope = _gradient(here)
        for _ in range(_ROUNDS):
            flow = _refined(flow, here, there, slope)
    return flow


def _refined(flow: Tensor, here: Tensor, there: Tensor, slope: Tensor) -> Tensor:
    """One Lucas-Kanade step: the motion that best explains the brightness in the window around each pixel.

    Every neighbour judges the window's motion from where its own flow has already brought it, so neighbours
    that disagree pull each other together, and the step stays stable without limits on its length.
    """
    moved, inside = _pulled(there, flow, "bilinear")
    slope = 0.5 * (slope + _gradient(moved))
    sx, sy = slope[:, :1], slope[:, 1:]
    rest = moved - here - sx * flow[:, :1] - sy * flow[:, 1:]
    seen = inside / (1 + ((moved - here) / _SURPRISE).square())
    wx, wy = sx * seen, sy * seen
    sums = _window(torch.cat((sx * wx, sx * wy, sy * wy, wx * rest, wy * rest, flow), 1))
    xx, xy, yy, xr, yr, fx, fy = torch.split(sums, 1, dim=1)
    xx, yy = xx + _SMOOTHNESS, yy + _SMOOTHNESS
    xr, yr = xr - _SMOOTHNESS * fx, yr - _SMOOTHNESS * fy
    determinant = xx * yy - xy * xy
    return torch.cat((xy * yr - yy * xr, xy * xr - xx * yr), 1).div(determinant)


def _render(pair: Tensor, flows: Tensor, t: float) -> Tensor:
    """The picture at time t: (3, H, W) in 0..1."""
    # Pixel x of the new frame comes from x0 in a, where x0 + t * flow(x0) = x, and likewise from b. Start as
    # if the motion were the same at x and x0, then solve; where that does not settle, x is hidden there.
    to_a, gap_a = _source(flows[:1], t)
    to_b, gap_b = _source(flows[1:], 1 - t)
    trust = torch.cat(((1 - t) * torch.exp(-gap_a), t * torch.exp(-gap_b))) + 1e-4
    pulled, inside = _pulled(pair, torch.cat((to_a, to_b)), "bicubic")
    weight = trust * (inside + 1e-4)
    return torch.clamp((pulled * weight).sum(0) / weight.sum(0), 0, 1)


def _source(flow: Tensor, t: float) -> tuple[Tensor, Tensor]:
    """Where each pixel of time t was in the frame that `flow` starts from, and how far (px^2) that misses."""
    move = -t * flow
    for _ in range(_SOLVES):
        seen, _ = _pulled(flow, move, "bilinear")
        previous, move = move, -t * seen
    return move, (move - previous).square().sum(1, keepdim=True)


def _is_cut(luma: Tensor, flows: Tensor) -> bool:
    """Two shots: the pictures differ, and the motion found one way does not lead back the other way."""
    difference = float((luma[0] - luma[1]).abs().mean())
    if difference < _CUT_DIFFERENCE:
        return False
    returned, _ = _pulled(flows.flip(0), flows, "bilinear")
    length = flows.square().sum(1) + returned.square().sum(1)
    lost = (flows + returned).square().sum(1) > 0.01 * length + 0.5
    return float(lost.float().mean()) > _CUT_LOST


def _pulled(picture: Tensor, move: Tensor, mode: str) -> tuple[Tensor, Tensor]:
    """picture(x + move(x)), and 1 where that lies inside the picture, 0 outside.

    The grid is float32 whatever the picture is: half precision would miss by up to a pixel at 1280 wide.
    """
    height, width = picture.shape[-2:]
    x = torch.arange(width, device=move.device, dtype=torch.float32) + move[:, 0].float()
    y = torch.arange(height, device=move.device, dtype=torch.float32)[:, None] + move[:, 1].float()
    grid = torch.stack((x * (2 / max(width - 1, 1)) - 1, y * (2 / max(height - 1, 1)) - 1), -1)
    inside = (grid.abs().amax(-1) <= 1.0 + 1e-6)[:, None].to(picture.dtype)
    pulled = functional.grid_sample(
        picture.float(), grid, mode=mode, padding_mode="border", align_corners=True
    )
    return pulled, inside


def _resized(flow: Tensor, height: int, width: int) -> Tensor:
    """The same motion on another grid, in its pixels."""
    if flow.shape[-2:] == (height, width):
        return flow
    scale = flow.new_tensor((width / flow.shape[-1], height / flow.shape[-2])).view(1, 2, 1, 1)
    return functional.interpolate(flow, (height, width), mode="bilinear", align_corners=False) * scale


def _half(picture: Tensor) -> Tensor:
    kernel = picture.new_tensor((1, 4, 6, 4, 1)) / 16
    return functional.interpolate(
        _separable(picture, kernel), scale_factor=0.5, mode="bilinear", align_corners=False
    )


def _window(values: Tensor) -> Tensor:
    """Weighted sum over the window around each pixel: a smooth bump, no edges that the flow would show."""
    offsets = torch.arange(-_RADIUS, _RADIUS + 1, device=values.device, dtype=values.dtype)
    kernel = torch.exp(-0.5 * (offsets / (0.5 * _RADIUS + 0.5)) ** 2)
    return _separable(values, kernel / kernel.sum())


def _separable(values: Tensor, kernel: Tensor) -> Tensor:
    channels, pad = values.shape[1], kernel.numel() // 2
    values = functional.pad(values, (pad, pad, pad, pad), mode="replicate")
    values = values.contiguous(memory_format=torch.channels_last)  # twice as fast on a CPU
    values = functional.conv2d(values, kernel.view(1, 1, 1, -1).repeat(channels, 1, 1, 1), groups=channels)
    return functional.conv2d(values, kernel.view(1, 1, -1, 1).repeat(channels, 1, 1, 1), groups=channels)


def _gradient(picture: Tensor) -> Tensor:
    """(N, 1, H, W) -> (N, 2, H, W): change per pixel to the right and down."""
    padded = functional.pad(picture, (1, 1, 1, 1), mode="replicate")
    right = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) * 0.5
    down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) * 0.5
    return torch.cat((right, down), 1)
