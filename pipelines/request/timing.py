"""Frame counts and frame rates: how many are generated, how many come out, and how fast they play."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

__all__ = ["frames_out", "generated_frames", "input_fps", "output_fps"]


def generated_frames(num_frames: int, stride: int = 4) -> int:
    """The next 4n + 1: the VAE codes one first frame and then `stride` frames at a time."""
    return -(-(num_frames - 1) // stride) * stride + 1


def input_fps(values: Mapping[str, Any]) -> Fraction | None:
    """The rate at which frames of the input are chosen; None takes one after the other."""
    return Fraction(values["frames_per_second"]) if values.get("resample_fps") else None


def frames_out(num_frames: int, between: int) -> int:
    """Frames after drawing `between` new ones in each gap."""
    return num_frames + max(num_frames - 1, 0) * between


def output_fps(fps: int | Fraction, num_frames: int, between: int, adjust: bool) -> Fraction:
    """The rate of the file. Not multiplied without a gap to fill (one frame), and never clamped."""
    return Fraction(fps * (between + 1 if adjust and num_frames > 1 else 1))
