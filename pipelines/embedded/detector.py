"""Sees what is in a clip, by classical vision: colour by hue, shape by outline, motion by moments in time.

It reads finished frames, and shares no code with the training of the model that drew them. Needs numpy only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

__all__ = ["Seen", "look_at"]

_HUES = (  # upper limit in degrees, name
    (15, "red"),
    (43, "orange"),
    (75, "yellow"),
    (155, "green"),
    (206, "cyan"),
    (255, "blue"),
    (305, "purple"),
    (345, "pink"),
    (360, "red"),
)
_ANGLES = np.linspace(0, 2 * math.pi, 90, endpoint=False)
_MIN_CONTRAST = 30.0  # RGB distance below which nothing stands out from the background
_MIN_AREA = 12.0  # pixels


@dataclass(frozen=True)
class Seen:
    """What a clip shows. A name is None where nothing could be told; numbers are of the whole clip."""

    shape: str | None
    colour: str | None
    motion: str | None
    background: str | None
    winding_degrees: float  # how far the direction of travel turned: about 360 for a circle
    roamed: float  # the shorter of its ranges across and down, as a share of the shorter side of the frame
    bounces: int  # how often the vertical travel reversed
    ink: float  # share of the object that is neither its own colour nor the background


def look_at(frames: np.ndarray) -> Seen:
    """Return what `frames` show: (T, H, W, 3), uint8."""
    pixels = frames.astype(np.float32)
    back = _background(pixels)
    coverage, colour, ink = _coverage(pixels, back)
    area = coverage.sum((1, 2))
    present = area > _MIN_AREA
    background = _background_name(back)
    if present.sum() < max(1, len(frames) // 2):
        return Seen(None, None, None, background, 0.0, 0.0, 0, 0.0)
    when = np.nonzero(present)[0]
    coverage, area = coverage[present], area[present]
    y, x = _centroids(coverage, area)
    outlines = np.stack([_outline(c, cy, cx) for c, cy, cx in zip(coverage, y, x, strict=True)])
    compact = math.pi * np.square(outlines).mean(1) / area
    if np.median(compact) < 0.6:
        return Seen(None, None, None, background, 0.0, 0.0, 0, ink)
    harmonics = np.fft.rfft(outlines / outlines.mean(1, keepdims=True), axis=1) / len(_ANGLES) * 2
    shape, order = _shape(np.abs(harmonics))
    side = min(frames.shape[1:3])
    moved_x, moved_y = _travel(when, x) / side, _travel(when, y) / side
    grown = _growth(when, area)
    turned = _turn(harmonics[:, order], order) if order else 0.0
    return Seen(
        shape,
        _hue_name(colour),
        _motion(moved_x, moved_y, grown, turned) if len(when) > 2 else None,
        background,
        _winding(x, y),
        min(float(np.ptp(x)), float(np.ptp(y))) / side,
        _bounces(y),
        ink,
    )


def _background(pixels: np.ndarray) -> np.ndarray:
    """Return the median (3,) of the frames' borders, which an object touches only here and there."""
    rims = (pixels[:, :2], pixels[:, -2:], pixels[:, :, :2], pixels[:, :, -2:])
    median: np.ndarray = np.median(np.concatenate([rim.reshape(-1, 3) for rim in rims]), axis=0)
    return median


def _coverage(pixels: np.ndarray, back: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return how much of each pixel is object (T, H, W), in [0, 1], its colour (3,), and the share of ink."""
    away = pixels - back
    distance = np.linalg.norm(away, axis=-1)
    strong = np.sort(distance.ravel())[-max(20, distance.size // 200)]
    if strong < _MIN_CONTRAST:
        return np.zeros(distance.shape, np.float32), back, 0.0
    core = pixels[distance > 0.4 * strong]
    colour = _commonest(core)
    axis = colour - back
    share = away @ axis / (axis @ axis)
    beside = np.linalg.norm(away - share[..., None] * axis, axis=-1)
    inked = (beside > 60) & (distance > 0.4 * strong)  # off the line on which blurred edges lie
    solid = np.where(inked, 1.0, share.clip(0, 1))
    solid[solid < 0.25] = 0
    return solid, colour, float(inked.sum() / max(1, len(core)))


def _commonest(colours: np.ndarray) -> np.ndarray:
    """Return the median of the fullest bin of strongly coloured pixels, else of all."""
    chroma = colours.max(1) - colours.min(1)
    vivid = colours[chroma > 60] if (chroma > 60).mean() > 0.2 else colours
    bins = (vivid // 48).astype(int) @ np.array([1, 6, 36])
    values, counts = np.unique(bins, return_counts=True)
    median: np.ndarray = np.median(vivid[bins == values[counts.argmax()]], axis=0)
    return median


def _hue(colour: np.ndarray) -> tuple[float, float, float]:
    """Return the hue in degrees, and saturation and value in [0, 1]."""
    red, green, blue = (float(c) / 255 for c in colour)
    high, low = max(red, green, blue), min(red, green, blue)
    spread = high - low
    if spread == 0:
        return 0.0, 0.0, high
    if high == red:
        sector = ((green - blue) / spread) % 6
    else:
        sector = (blue - red) / spread + 2 if high == green else (red - green) / spread + 4
    return 60 * sector, spread / high, high


def _hue_name(colour: np.ndarray) -> str | None:
    hue, saturation, value = _hue(colour)
    if saturation < 0.25 or value < 0.25:
        return None
    return next(name for limit, name in _HUES if hue <= limit)


def _background_name(colour: np.ndarray) -> str | None:
    hue, _, value = _hue(colour)
    chroma = float(colour.max() - colour.min())
    if chroma > 35 and value < 0.6:
        if 200 <= hue <= 270:
            return "navy"
        return "brown" if hue <= 50 else None
    if chroma > 45:
        return None
    return "black" if value < 0.25 else "gray" if value < 0.75 else "white"


def _centroids(coverage: np.ndarray, area: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.arange(coverage.shape[1]), np.arange(coverage.shape[2])
    return (coverage.sum(2) @ rows) / area, (coverage.sum(1) @ columns) / area


def _outline(coverage: np.ndarray, y: float, x: float) -> np.ndarray:
    """Return (90,): how much object lies on the ray from the centre in each direction, in pixels."""
    step = 0.5
    reach = np.arange(step / 2, max(coverage.shape) / 2, step)
    rows = np.clip(y - np.outer(np.sin(_ANGLES), reach), 0, coverage.shape[0] - 1.001)
    columns = np.clip(x + np.outer(np.cos(_ANGLES), reach), 0, coverage.shape[1] - 1.001)
    top, left = rows.astype(int), columns.astype(int)
    down, right = rows - top, columns - left
    above = coverage[top, left] * (1 - right) + coverage[top, left + 1] * right
    below = coverage[top + 1, left] * (1 - right) + coverage[top + 1, left + 1] * right
    values = above * (1 - down) + below * down
    inside = np.cumprod(values > 0.2, axis=1)  # a stray blob further out is not this object
    reached: np.ndarray = np.maximum((values * inside).sum(1) * step, 0.1)
    return reached


def _shape(strength: np.ndarray) -> tuple[str, int]:
    """Return the name and the number of corners (0 for a ball) from the outlines' harmonics (T, K)."""
    three, four, five = (float(np.median(strength[:, k])) for k in (3, 4, 5))
    if max(three / 0.12, four / 0.055, five / 0.12) < 1:
        return "ball", 0
    return max((three / 0.12, "triangle", 3), (four / 0.055, "square", 4), (five / 0.12, "star", 5))[1:]


def _travel(when: np.ndarray, track: np.ndarray) -> float:
    """Return how far the fitted line goes from the first to the last frame."""
    return float(np.polyfit(when, track, 1)[0] * (when[-1] - when[0])) if len(when) > 2 else 0.0


def _growth(when: np.ndarray, area: np.ndarray) -> float:
    return math.exp(_travel(when, np.log(area)))


def _turn(harmonic: np.ndarray, order: int) -> float:
    return math.degrees(float(np.unwrap(-np.angle(harmonic))[-1] + np.angle(harmonic)[0])) / order


def _motion(moved_x: float, moved_y: float, grown: float, turned: float) -> str | None:
    """Return the strongest of the three changes, each on the scale of a clear example; None if faint."""
    travelled = max(abs(moved_x), abs(moved_y)) / 0.15
    swollen = math.log(max(grown, 1e-6)) / math.log(1.8)
    spun = abs(turned) / 45
    if max(travelled, swollen, spun) < 0.7:
        return None
    if travelled >= max(swollen, spun):
        if abs(moved_x) >= abs(moved_y):
            return "right" if moved_x > 0 else "left"
        return "down" if moved_y > 0 else "up"
    return "growing" if swollen >= spun else "spinning"


def _winding(x: np.ndarray, y: np.ndarray) -> float:
    """Return the total turning of the direction of travel. Slow steps have no direction and are left out."""
    dx, dy = np.diff(x), np.diff(y)
    fast = np.hypot(dx, dy) > 0.4
    if fast.sum() < 4:
        return 0.0
    heading = np.unwrap(np.arctan2(dy[fast], dx[fast]))
    return abs(math.degrees(float(heading[-1] - heading[0])))


def _bounces(y: np.ndarray) -> int:
    steps = np.diff(y)
    ways = np.sign(steps[np.abs(steps) > 0.6])
    return int((ways[1:] != ways[:-1]).sum()) if len(ways) else 0
