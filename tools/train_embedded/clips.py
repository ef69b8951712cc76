"""Clips of a scene, drawn by arithmetic: the same arguments give the same bytes everywhere.

Every shape is star-shaped about its centre, so "is this sample inside" is one comparison of a radius with
the outline's radius in that direction. Edges are anti-aliased by averaging a grid of samples in each pixel
near the object.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .grammar import Scene

__all__ = ["FPS", "FRAMES", "LOOKS", "PALETTE", "SIZES", "Path", "random_path", "render"]

FPS = 16
FRAMES = 17
SIZES = ((112, 64), (64, 112), (64, 64))  # width, height: 16:9, 9:16 and 1:1 in multiples of 16
LOOKS = ("plain", "outlined", "striped")
PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (225, 35, 40),
    "orange": (250, 140, 20),
    "yellow": (250, 228, 40),
    "green": (45, 180, 60),
    "cyan": (40, 215, 225),
    "blue": (45, 80, 235),
    "purple": (145, 50, 205),
    "pink": (255, 105, 185),
    "white": (240, 240, 240),
    "black": (14, 14, 16),
    "gray": (128, 128, 128),
    "navy": (18, 28, 84),
    "brown": (104, 66, 36),
}

_SAMPLES = 4  # per pixel and axis
_CORNERS = {
    "square": (4, math.cos(math.pi / 4)),
    "triangle": (3, 0.5),
    "star": (5, 0.42),
}  # count, inner/outer radius
_UPRIGHT = {"square": math.pi / 4, "triangle": math.pi / 2, "star": math.pi / 2}
_STRETCH = {
    "ball": 1.0,
    "square": 1.2,
    "triangle": 1.35,
    "star": 1.4,
}  # outer radius, so that areas look alike
_OUTLINE_PIXELS = 2.5
_STRIPE_PIXELS = 5.0


@dataclass(frozen=True)
class Path:
    """Where the object is in every frame, in pixels, radians and frames: arrays of one length."""

    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray
    angle: np.ndarray


def random_path(scene: Scene, width: int, height: int, frames: int, rng: np.random.Generator) -> Path:
    side = min(width, height)
    t = np.linspace(0.0, 1.0, frames) if frames > 1 else np.zeros(1)
    stretch = _STRETCH[scene.shape]
    radius = np.full(frames, rng.uniform(0.16, 0.22) * side)
    if scene.motion == "growing":
        radius = side * (rng.uniform(0.09, 0.12) + rng.uniform(0.13, 0.16) * t)
    angle = np.full(frames, _UPRIGHT.get(scene.shape, 0.0))
    if scene.motion == "spinning":
        angle = angle + rng.uniform(0, 2 * math.pi) - math.radians(rng.uniform(100, 160)) * t
    reach_x, reach_y = np.zeros(frames), np.zeros(frames)
    travel = rng.uniform(0.3, 0.45) * side * t
    if scene.motion in ("left", "right"):
        reach_x = travel if scene.motion == "right" else -travel
    elif scene.motion in ("up", "down"):
        reach_y = travel if scene.motion == "down" else -travel
    elif scene.motion == "circling":
        # From about the top, clockwise: with every start alike, the mean of all ways would be a ring.
        start, orbit = rng.uniform(-0.3, 0.3) - math.pi / 2, rng.uniform(0.17, 0.21) * side
        reach_x, reach_y = orbit * np.cos(start + 2 * math.pi * t), orbit * np.sin(start + 2 * math.pi * t)
    elif scene.motion == "hopping":
        reach_y = -rng.uniform(0.3, 0.38) * side * np.abs(np.sin(2 * math.pi * t))
    margin = float(radius.max()) * min(stretch, 1.25) + 1
    x = _place(reach_x, margin, width, rng) + reach_x
    y = _place(reach_y, margin, height, rng) + reach_y
    return Path(x, y, radius * stretch, angle)


def render(
    scene: Scene,
    width: int,
    height: int,
    frames: int,
    seed: int,
    look: str = "plain",
    palette: dict[str, tuple[int, int, int]] = PALETTE,
) -> np.ndarray:
    """(T, H, W, 3) uint8. The seed decides size, place and speed, nothing else."""
    rng = np.random.default_rng(seed)
    path = random_path(scene, width, height, frames, rng)
    back = np.array(palette[scene.background], np.float32)
    fill = np.array(palette[scene.colour], np.float32)
    ink = np.full(3, 250.0 if back.mean() < 100 else 5.0, np.float32)
    clip = np.empty((frames, height, width, 3), np.uint8)
    clip[:] = np.round(back).astype(np.uint8)
    for index in range(frames):
        x, y, radius, angle = (float(track[index]) for track in (path.x, path.y, path.radius, path.angle))
        left, right = max(0, math.floor(x - radius)), min(width, math.ceil(x + radius))
        top, bottom = max(0, math.floor(y - radius)), min(height, math.ceil(y + radius))
        if left >= right or top >= bottom:
            continue
        across, down = _samples(left, right) - x, _samples(top, bottom) - y
        dx, dy = np.meshgrid(across, down)
        edge = _outline_radius(scene.shape, dx, dy, radius, angle)
        distance = np.hypot(dx, dy)
        colours = np.broadcast_to(fill, (*distance.shape, 3))
        if look == "outlined":
            inner = _CORNERS.get(scene.shape, (0, 1.0))[1]
            inside = edge * (1 - _OUTLINE_PIXELS / (radius * inner))
            colours = np.where((distance > inside)[..., None], ink, colours)
        elif look == "striped":
            colours = np.where((np.floor(dy / _STRIPE_PIXELS) % 2 == 0)[..., None], colours, ink)
        samples = np.where((distance <= edge)[..., None], colours, back)
        tiles = samples.reshape(bottom - top, _SAMPLES, right - left, _SAMPLES, 3)
        clip[index, top:bottom, left:right] = np.round(tiles.mean(axis=(1, 3))).astype(np.uint8)
    return clip


def _place(reach: np.ndarray, margin: float, length: int, rng: np.random.Generator) -> float:
    """A starting coordinate that keeps the whole way inside the frame, or centred when it cannot fit."""
    low, high = margin - float(reach.min()), length - margin - float(reach.max())
    return rng.uniform(low, high) if low < high else (low + high) / 2


def _samples(start: int, stop: int) -> np.ndarray:
    return (np.arange(start * _SAMPLES, stop * _SAMPLES, dtype=np.float32) + 0.5) / _SAMPLES


def _outline_radius(
    shape: str, dx: np.ndarray, dy: np.ndarray, radius: float, angle: float
) -> np.ndarray | float:
    """Distance from the centre to the outline in the direction of each sample.

    A polygon or star folds into one edge from an outer corner at angle 0 to the next inner corner.
    """
    if shape == "ball":
        return radius
    corners, inner = _CORNERS[shape]
    sector = 2 * math.pi / corners
    turned = np.arctan2(-dy, dx) - np.float32(angle)
    folded = np.abs((turned + sector / 2) % sector - sector / 2)
    inner_x, inner_y = inner * math.cos(sector / 2), inner * math.sin(sector / 2)
    edge: np.ndarray = radius * inner_y / (np.cos(folded) * inner_y - np.sin(folded) * (inner_x - 1))
    return edge
