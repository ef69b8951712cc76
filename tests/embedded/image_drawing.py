"""Draws with the embedded pair that begins with a picture, for the tests and for bench/embedded_model.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from drawing import pixels, unseen_prompts
from interpolation.scenes import psnr
from plans import plan_of

from tools.train_embedded.clips import render
from tools.train_embedded.grammar import Scene
from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.generate.stages import encode_prompts, sample
from wan_duet.pipelines.generate.start_images import encode_images
from wan_duet.pipelines.loading.wan_model import WanModel
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request import parse
from wan_duet.pipelines.sampling.engine import Condition, Prompts
from wan_duet.pipelines.sampling.noise import StartLatents, initial_noise
from wan_duet.pipelines.sampling.schedule import Sampling

__all__ = ["Drawn", "apart", "drawn", "psnr"]

SIZE, FRAMES, MEMORY = (64, 64), 17, DeviceMemory("cpu")
Drawn = list[tuple[Scene, np.ndarray, np.ndarray]]  # scene, the clip it was cut from, the clip that was drawn


def drawn(model: WanModel, clips: int, seed: int, *, ends: bool, **fields: Any) -> Drawn:
    """At the default settings of a request but for `fields`; the seed of a clip is its place."""
    pairs = unseen_prompts(clips, seed)
    given = [render(scene, *SIZE, FRAMES, seed) for seed, (scene, _) in enumerate(pairs)]
    request = parse("image-to-video", {"prompt": "any", "image_url": "a.png", **fields})
    plan = plan_of(request, model.family, 0, SIZE, boundary=model.boundary)
    texts = encode_prompts(model, [*(prompt for _, prompt in pairs), ""], MEMORY, Silent())
    channels = [channels_of(model, clip, ends, plan.latent_shape) for clip in given]
    every, none = torch.cat([text.embeddings for text in texts[:-1]]), texts[-1].embeddings
    noise = torch.cat([initial_noise((1, *plan.latent_shape), index) for index in range(clips)])
    latents = sample(
        model,
        Sampling.of_plan(plan),
        StartLatents(torch.zeros_like(noise), noise),
        Prompts(*(Condition(text, torch.cat(channels)) for text in (every, none.expand_as(every)))),
        MEMORY,
        Silent(),
    )
    made = [pixels(model, one, MEMORY, FRAMES) for one in latents.split(1)]
    return [(scene, clip, new) for (scene, _), clip, new in zip(pairs, given, made, strict=True)]


def channels_of(
    model: WanModel, clip: np.ndarray, ends: bool, shape: tuple[int, int, int, int]
) -> torch.Tensor:
    first, last = (torch.from_numpy(clip[index]).float() / 255 for index in (0, -1))
    pictures = encode_images(model, first, last if ends else None, SIZE, shape, FRAMES, MEMORY, Silent())
    channels = pictures.beside(Prompts(Condition(torch.zeros(1)), None), model.vae).positive.channels
    assert channels is not None
    return channels


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """Mean distance of a channel of a pixel, of 255."""
    return float(np.abs(one.astype(np.float32) - other.astype(np.float32)).mean())
