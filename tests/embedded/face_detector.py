"""Sees a face of simple shapes in finished frames. Shares no code with the training that drew them."""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wan_duet.pipelines.embedded.detector import look_at

__all__ = ["SeenFace", "see_face"]

_UP = (0.12, 0.48)  # of the radius, above the centre: where eyes are
_SIDE = 0.38
_HUES = {
    "red": 0, "orange": 33, "yellow": 54, "green": 128, "cyan": 183, "blue": 229, "purple": 277, "pink": 330
}  # degrees  # fmt: skip


@dataclass(frozen=True)
class SeenFace:
    """What a clip shows.

    x, y, radius: (frames,), of the face, in pixels.
    openings:     (frames,), the height of the dark mouth in radii.
    eyes:         share of frames with a dark spot on each side above the centre.
    """

    colour: str
    background: str | None
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    radius: npt.NDArray[np.float64]
    openings: npt.NDArray[np.float64]
    eyes: float


def see_face(frames: npt.NDArray[np.uint8]) -> SeenFace:
    """Return what `frames` (T, H, W, 3) show. Raises ValueError where a frame has no face."""
    pixels = frames.astype(np.float64)
    rim = np.concatenate([pixels[:, :2].reshape(-1, 3), pixels[:, -2:].reshape(-1, 3)])
    back = np.median(rim, axis=0)
    skin = _skin(pixels, back)
    seen = [_one(frame, back, skin) for frame in pixels]
    x, y, radius, openings, eyes = (np.array(values, float) for values in zip(*seen, strict=True))
    return SeenFace(_name(skin), look_at(frames).background, x, y, radius, openings, float(eyes.mean()))


def _name(colour: npt.NDArray[np.float64]) -> str:
    hue = 360 * colorsys.rgb_to_hsv(*(colour / 255))[0]
    return min(_HUES, key=lambda name: min(abs(hue - _HUES[name]), 360 - abs(hue - _HUES[name])))


def _skin(pixels: npt.NDArray[np.float64], back: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the median of pixels that are neither background nor dark."""
    vivid = pixels.max(-1) - pixels.min(-1) > 80
    vivid &= np.linalg.norm(pixels - back, axis=-1) > 60
    if vivid.mean() < 0.05:
        raise ValueError("no face: hardly a pixel is coloured and unlike the background")
    median: npt.NDArray[np.float64] = np.median(pixels[vivid], axis=0)
    return median


def _one(
    frame: npt.NDArray[np.float64], back: npt.NDArray[np.float64], skin: npt.NDArray[np.float64]
) -> tuple[float, float, float, float, float]:
    """Return x, y, radius, opening, and 1 if both eyes are there."""
    is_skin = np.linalg.norm(frame - skin, axis=-1) < np.minimum(np.linalg.norm(frame - back, axis=-1), 90)
    rows, columns = np.nonzero(is_skin)
    if len(rows) < 50:
        raise ValueError("no face: a frame has hardly a pixel of its colour")
    top, bottom = np.quantile(rows, (0.005, 0.995))
    left, right = np.quantile(columns, (0.005, 0.995))
    x, y = (left + right) / 2, (top + bottom) / 2
    radius = (right - left + bottom - top) / 4 + 0.5
    dark = 1 - (frame.sum(-1) / skin.sum()).clip(0, 1)  # share of darkness relative to the skin
    dark = dark / (1 - 46 / skin.sum())
    middle = slice(max(0, round(x - 0.12 * radius)), round(x + 0.12 * radius) + 1)
    below = slice(round(y + 0.02 * radius), round(y + 0.86 * radius))
    column = dark[below, middle].mean(axis=1)
    opening = float(np.where(column > 0.15, column, 0).sum() / radius)
    eyes = all(_spot(dark, x + side * _SIDE * radius, y, radius) for side in (-1, 1))
    return float(x), float(y), float(radius), opening, float(eyes)


def _spot(dark: npt.NDArray[np.float64], x: float, y: float, radius: float) -> bool:
    """Whether something dark lies around x, above the centre."""
    rows = slice(round(y - _UP[1] * radius), round(y - _UP[0] * radius) + 1)
    columns = slice(round(x - 0.2 * radius), round(x + 0.2 * radius) + 1)
    area = float(dark[rows, columns].clip(0, 1).sum())
    return area > 0.3 * math.pi * (0.15 * radius) ** 2
