"""Moving pictures whose frame at any time is known exactly, to measure interpolation against.

A scene is a texture seen through a camera (pan, zoom, turn) with optional discs flying over it. `frame(t)`
draws time t directly from the definition, so the picture at t = 0.5 is the truth and not an estimate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from wan_duet.pipelines.video.frame_stream import Frame

TEXTURE = 1024
SCENES = ("translation", "rotation", "zoom", "occlusion", "fast pan", "mixed")


def texture(seed: int, finest: float = 1.4) -> Tensor:
    """(1, 3, 1024, 1024) in 0..1: coloured noise with detail at every size from `finest` pixels up."""
    random = torch.Generator().manual_seed(seed)
    total = torch.zeros(1, 3, TEXTURE, TEXTURE)
    for octave in range(7):
        size = max(int(TEXTURE / (finest * 2**octave)), 4)
        noise = torch.randn(1, 3, size, size, generator=random)
        noise = noise + 1.5 * noise.mean(1, keepdim=True)
        total += functional.interpolate(noise, (TEXTURE, TEXTURE), mode="bicubic") * 1.2**octave
    total = (total - total.mean()) / total.std()
    return torch.sigmoid(1.4 * total)


@dataclass(frozen=True)
class Scene:
    """Times are in frames: frame(0), frame(1), ... are what a camera would deliver; motion is per frame."""

    width: int
    height: int
    pan: tuple[float, float] = (0.0, 0.0)
    turn_degrees: float = 0.0
    zoom: float = 1.0
    discs: bool = False

    def frame(self, t: float) -> Frame:
        right = torch.arange(self.width, dtype=torch.float64) - (self.width - 1) / 2
        down = torch.arange(self.height, dtype=torch.float64)[:, None] - (self.height - 1) / 2
        x, y = torch.broadcast_tensors(right, down)
        angle, scale = math.radians(self.turn_degrees) * t, self.zoom**-t
        dx, dy = x * scale, y * scale
        u = dx * math.cos(angle) + dy * math.sin(angle) - self.pan[0] * t
        v = -dx * math.sin(angle) + dy * math.cos(angle) - self.pan[1] * t
        picture = _look_at(1, u, v, self.width)
        if self.discs:
            s = self.height / 176
            for seed, (px, py), (vx, vy), radius in (
                (2, (-50.0, -12.0), (6.0, 2.0), 26.0),
                (3, (60.0, 18.0), (-5.0, -3.0), 32.0),
            ):
                ox = x - s * (px + vx * t)
                oy = y - s * (py + vy * t)
                alpha = (s * radius - torch.hypot(ox, oy) + 0.5).clamp(0, 1).float()
                picture = picture * (1 - alpha) + _look_at(seed, ox, oy, self.width) * alpha
        return np.ascontiguousarray((picture[0] * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy())


def scene(name: str, width: int, height: int) -> Scene:
    """One of SCENES, its motion scaled with the picture so that every size sees the same film."""
    s = height / 176
    makers: dict[str, Callable[[], Scene]] = {
        "translation": lambda: Scene(width, height, pan=(2.1 * s, 1.1 * s)),
        "rotation": lambda: Scene(width, height, turn_degrees=1.4),
        "zoom": lambda: Scene(width, height, zoom=1.015),
        "occlusion": lambda: Scene(width, height, discs=True),
        "fast pan": lambda: Scene(width, height, pan=(9.0 * s, 1.7 * s)),
        "mixed": lambda: Scene(
            width, height, pan=(1.5 * s, -0.6 * s), turn_degrees=0.5, zoom=1.006, discs=True
        ),
    }
    return makers[name]()


def psnr(a: Frame, b: Frame) -> float:
    error = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def ssim(a: Frame, b: Frame) -> float:
    """Structural similarity (Wang et al. 2004), the mean over the picture and its colours."""
    x, y = (torch.from_numpy(frame.astype(np.float64)).permute(2, 0, 1)[:, None] for frame in (a, b))
    window = torch.exp(-0.5 * ((torch.arange(11, dtype=torch.float64) - 5) / 1.5) ** 2)
    window = window / window.sum()

    def mean(values: Tensor) -> Tensor:
        return functional.conv2d(
            functional.conv2d(values, window.view(1, 1, 1, -1)), window.view(1, 1, -1, 1)
        )

    mx, my = mean(x), mean(y)
    vx, vy, both = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    alike = (2 * mx * my + c1) * (2 * both + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return float(alike.mean())


def blend(a: Frame, b: Frame, t: float) -> Frame:
    return np.asarray(np.rint(a * (1 - t) + b * t), dtype=np.uint8)


_textures: dict[int, Tensor] = {}


def _look_at(seed: int, u: Tensor, v: Tensor, width: int) -> Tensor:
    """The texture at pixel offsets (u, v) from its middle: (1, 3, H, W)."""
    if seed not in _textures:
        _textures[seed] = texture(seed)
    period = TEXTURE * max(1.0, width / 900)
    grid = torch.stack((u, v), -1)[None].float() * (2 / period)
    return functional.grid_sample(
        _textures[seed], grid, mode="bicubic", padding_mode="reflection", align_corners=False
    )
