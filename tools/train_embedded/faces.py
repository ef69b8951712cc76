"""Faces of simple shapes for the embedded speech model: a disc with two eyes and a mouth that opens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .clips import PALETTE

__all__ = ["BACKGROUNDS", "COLOURS", "SIDE", "Face", "random_face", "render_face"]

SIDE = 64  # pixels, 1:1
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
BACKGROUNDS = ("white", "black", "gray", "navy", "brown")
_DARK = np.array((20, 10, 16), np.float32)  # eyes and the inside of the mouth
_SAMPLES = 4  # per pixel and axis


@dataclass(frozen=True)
class Face:
    """A still face. x, y: the centre of its disc in pixels from the top left. radius: in pixels."""

    colour: str
    background: str
    x: float
    y: float
    radius: float


def random_face(rng: np.random.Generator) -> Face:
    """Return a face that lies inside the picture with at least 2 pixels around it."""
    radius = float(rng.uniform(22, 25))
    room = SIDE / 2 - radius - 2
    x, y = SIDE / 2 + rng.uniform(-room, room, 2)
    return Face(str(rng.choice(COLOURS)), str(rng.choice(BACKGROUNDS)), float(x), float(y), radius)


def render_face(face: Face, openings: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Draw (frames, SIDE, SIDE, 3). openings: (frames,), from 0 for a closed mouth to 1."""
    places = (np.arange(SIDE * _SAMPLES, dtype=np.float32) + 0.5) / _SAMPLES
    across = ((places - face.x) / face.radius)[None]
    down = ((places - face.y) / face.radius)[:, None]
    canvas = np.empty((SIDE * _SAMPLES, SIDE * _SAMPLES, 3), np.float32)
    canvas[:] = PALETTE[face.background]
    canvas[across**2 + down**2 <= 1] = PALETTE[face.colour]
    for side in (-0.38, 0.38):
        canvas[(across - side) ** 2 + (down + 0.3) ** 2 <= 0.15**2] = _DARK
    frames = np.empty((len(openings), SIDE, SIDE, 3), np.uint8)
    for index, opening in enumerate(openings):
        drawn = canvas.copy()
        height = 0.04 + 0.32 * float(opening)
        drawn[(across / 0.45) ** 2 + ((down - 0.42) / height) ** 2 <= 1] = _DARK
        tiles = drawn.reshape(SIDE, _SAMPLES, SIDE, _SAMPLES, 3).mean(axis=(1, 3))
        frames[index] = np.round(tiles).astype(np.uint8)
    return frames
