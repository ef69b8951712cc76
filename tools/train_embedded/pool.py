"""Clips rendered ahead of time by several processes, addressed by number.

Clip `i` of a pool depends on `i` alone, so a pool can be rendered in any order, in parts, or again.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import numpy as np

from .checkpoint import randomness
from .clips import FRAMES, SIZES, render
from .grammar import LORA_MOTIONS, Scene, held_out_scenes, random_scene, training_scenes

__all__ = ["Clip", "mixed_clips", "render_all", "scene_clips"]


@dataclass(frozen=True)
class Clip:
    scene: Scene
    width: int
    height: int
    seed: int
    look: str = "plain"

    def frames(self) -> np.ndarray:
        return render(self.scene, self.width, self.height, FRAMES, self.seed, self.look)


def scene_clips(
    name: str,
    count: int,
    held_out: bool = False,
    sizes: Sequence[tuple[int, int]] = SIZES,
    motion: str | None = None,
    look: str = "plain",
    offset: int = 0,
    more_stars: float = 0.0,
) -> list[Clip]:
    """Clips of the base training set (or of the held-out one); `motion` and `look` make a LoRA's set.

    more_stars: share of the clips that show a star whatever chance said, 0..1.
    """
    among = held_out_scenes() if held_out else training_scenes()
    stars = [scene for scene in among if scene.shape == "star"]
    clips = []
    for index in range(offset, offset + count):
        rng = randomness(f"clips/{name}", index)
        scene = random_scene(rng, stars if more_stars and rng.random() < more_stars else among)
        width, height = sizes[int(rng.integers(len(sizes)))]
        scene = scene.with_motion(motion) if motion else scene
        clips.append(Clip(scene, width, height, int(rng.integers(2**31)), look))
    return clips


def mixed_clips(name: str, count: int, sizes: Sequence[tuple[int, int]] = SIZES) -> list[Clip]:
    """For the VAE, which must also carry what the LoRAs draw: a fifth has a LoRA's look or motion."""
    clips = []
    for index, clip in enumerate(scene_clips(name, count, sizes=sizes)):
        rng = randomness(f"looks/{name}", index)
        look = ("plain", "outlined", "striped")[int(rng.choice(3, p=(0.8, 0.1, 0.1)))]
        motion = LORA_MOTIONS[int(rng.integers(2))] if rng.random() < 0.15 else clip.scene.motion
        clips.append(Clip(clip.scene.with_motion(motion), clip.width, clip.height, clip.seed, look))
    return clips


def render_all(clips: Sequence[Clip], workers: int) -> list[np.ndarray]:
    if workers <= 1 or len(clips) < 256:
        return [clip.frames() for clip in clips]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as processes:
        return list(processes.map(partial(Clip.frames), clips, chunksize=16))
