"""Draws with the embedded speech model, and measures whether the mouth follows the sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from face_detector import see_face
from PIL import Image

from tools.train_embedded.faces import Face, render_face
from tools.train_embedded.sounds import RATE, write_sound
from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.generate.local_run import run
from wan_duet.pipelines.loading.wan_model import WanModel
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request import parse

__all__ = ["FPS", "follows", "jump", "loudness", "spoken"]

FPS = 16
_LAGS = range(-4, 5)  # frames


def spoken(
    model: WanModel, face: Face, sound: npt.NDArray[np.float32], folder: Path, **fields: Any
) -> npt.NDArray[np.uint8]:
    """Return the frames (T, H, W, 3) of a run, as the workflow asks but for `fields`.

    The picture has its mouth closed. Clips are as long as the model's own.
    """
    picture = folder / "face.png"
    Image.fromarray(render_face(face, np.zeros(1, np.float32))[0]).save(picture)
    request = parse(
        "speech-to-video",
        {
            "prompt": "a person speaks",
            "image_url": str(picture),
            "audio_url": str(write_sound(folder / "sound.wav", sound)),
            "num_inference_steps": 8,
            "seed": 3,
            **fields,
        },
    )
    made = run(
        request,
        model,
        out=folder / "spoken.mp4",
        memory=DeviceMemory("cpu"),
        progress=Silent(),
        return_images=True,
    )
    assert made.images is not None
    frames: npt.NDArray[np.uint8] = (made.images.numpy() * 255).round().astype(np.uint8)
    return frames


def loudness(sound: npt.NDArray[np.float32], frames: int) -> npt.NDArray[np.float64]:
    """Return the root mean square around each frame, over three frames."""
    step = RATE // FPS
    padded = np.pad(sound.astype(np.float64), (step, (frames + 1) * step))
    return np.array([np.sqrt(np.square(padded[at * step : (at + 3) * step]).mean()) for at in range(frames)])


def follows(frames: npt.NDArray[np.uint8], sound: npt.NDArray[np.float32]) -> dict[str, float | int]:
    """Return the correlation of the mouth's opening with the loudness, and its lag in frames."""
    openings, loud = see_face(frames).openings, loudness(sound, len(frames))
    inside = slice(max(_LAGS), len(frames) - max(_LAGS))
    at = {lag: float(np.corrcoef(np.roll(openings, -lag)[inside], loud[inside])[0, 1]) for lag in _LAGS}
    return {
        "correlation": round(float(np.corrcoef(openings, loud)[0, 1]), 3),
        "lag": max(at, key=lambda lag: at[lag]),
    }


def jump(frames: npt.NDArray[np.uint8], clip: int) -> float:
    """Return the change where clips of `clip` frames meet, as a share of the 95th percentile elsewhere."""
    changes = np.abs(np.diff(frames.astype(np.float64), axis=0)).mean(axis=(1, 2, 3))
    joins = np.arange(clip - 1, len(changes), clip)
    return float(changes[joins].max() / np.quantile(np.delete(changes, joins), 0.95))
