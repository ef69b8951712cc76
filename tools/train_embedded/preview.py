"""Contact sheets: a row per clip, a column per shown frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

__all__ = ["frames_to_tensor", "save_sheet", "tensor_to_frames"]


def frames_to_tensor(frames: np.ndarray, device: torch.device) -> torch.Tensor:
    """(..., T, H, W, 3) uint8 -> (..., 3, T, H, W) float32 in -1..1."""
    pixels = torch.from_numpy(np.ascontiguousarray(frames)).to(device).float().div_(127.5).sub_(1)
    return pixels.movedim(-1, -4)


def tensor_to_frames(pixels: torch.Tensor) -> np.ndarray:
    """(..., 3, T, H, W) in -1..1 -> (..., T, H, W, 3) uint8."""
    levels = pixels.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    return levels.movedim(-4, -1).cpu().numpy()


def save_sheet(path: Path, clips: Sequence[np.ndarray], columns: int = 5, enlarge: int = 2) -> None:
    """`clips`: (T, H, W, 3) uint8 of one size; frames are picked evenly from the first to the last."""
    rows = []
    for clip in clips:
        shown = clip[np.linspace(0, len(clip) - 1, min(columns, len(clip))).round().astype(int)]
        rows.append(np.concatenate([np.pad(frame, ((1, 1), (1, 1), (0, 0))) for frame in shown], axis=1))
    sheet = np.concatenate(rows, axis=0).repeat(enlarge, 0).repeat(enlarge, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(path)
