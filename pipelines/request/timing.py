"""Counts of frames and steps, and frame rates, of the generated clip and of the file."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

__all__ = [
    "LATENT_STRIDE",
    "frames_out",
    "generated_frames",
    "input_fps",
    "output_fps",
    "running_steps",
    "speech_clip",
    "trained_frames",
]


LATENT_STRIDE = 4  # pixel frames of a latent frame, in every VAE of Wan; the first holds one alone


def generated_frames(num_frames: int, stride: int = LATENT_STRIDE) -> int:
    """Return the next 4n + 1: the VAE encodes the first frame alone, then `stride` frames at a time."""
    return -(-(num_frames - 1) // stride) * stride + 1


def speech_clip(num_frames: int, stride: int = LATENT_STRIDE) -> int:
    """Return the next multiple of `stride`: the VAE encodes no frame of a clip of speech alone."""
    return -(-num_frames // stride) * stride


def input_fps(values: Mapping[str, Any]) -> Fraction | None:
    """Return the rate at which input frames are chosen. None: every frame is used in order."""
    return Fraction(values["frames_per_second"]) if values.get("resample_fps") else None


def frames_out(num_frames: int, between: int) -> int:
    """Return the number of frames after interpolating `between` new ones in each gap."""
    return num_frames + max(num_frames - 1, 0) * between


def output_fps(fps: int | Fraction, num_frames: int, between: int, adjust: bool) -> Fraction:
    """Return the frame rate of the file. A single frame keeps its rate. The result is never clamped."""
    return Fraction(fps * (between + 1 if adjust and num_frames > 1 else 1))


def trained_frames(task: str) -> int:
    """Return the longest clip that a provider's model for `task` was trained on."""
    return 121 if task.startswith("small-") else 81  # frame_num in wan/configs of the official code


def running_steps(steps: int, strength: float) -> int:
    """Return how many of the steps a strength of 0 to 1 runs: all at 1, none at 0."""
    return min(int(steps * strength), steps)
