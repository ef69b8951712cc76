"""Draws with the embedded model and looks at the result, for the tests and for bench/embedded_model.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from plans import plan_of

from tools.train_embedded.grammar import Scene, held_out_scenes, prompt_of, random_scene
from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.embedded.detector import Seen, look_at
from wan_duet.pipelines.generate.frame_stages import decode
from wan_duet.pipelines.generate.stages import encode_prompts, sample
from wan_duet.pipelines.loading.wan_model import WanModel
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request import t2v_request
from wan_duet.pipelines.sampling.engine import Condition, Prompts
from wan_duet.pipelines.sampling.noise import StartLatents, initial_noise
from wan_duet.pipelines.sampling.schedule import Sampling, Schedule
from wan_duet.pipelines.sampling.step_cache import StepCache

__all__ = [
    "PROPERTIES",
    "colourless_prompt",
    "draw",
    "exchanged",
    "followed",
    "graininess",
    "pixels",
    "unseen_prompts",
]

_AT_ONCE = 8  # networks this small mostly wait for one operation after the other
PROPERTIES = ("colour", "background", "motion", "shape")


def draw(
    model: WanModel,
    prompts: Sequence[str],
    *,
    negative_prompts: Sequence[str] | None = None,
    ranges: Sequence[Sequence[str]] | None = None,
    aspect_ratio: str = "1:1",
    guided: bool = True,
    without_low: bool = False,
    new_cache: Callable[[Schedule], StepCache] | None = None,
    **fields: Any,
) -> list[np.ndarray]:
    """For each prompt (T, H, W, 3) uint8 before encoding, at the default settings of a request.

    The seed of a prompt is its place in the list.
    negative_prompts: one for each prompt; empty ones otherwise.
    ranges:           the texts of the ranges of each clip, in place of its prompt. `local` has their lengths.
    guided:           False sets both guidance scales to 1.
    without_low:      stop at the boundary and decode what the high expert left.
    new_cache:        makes the step cache of a clip; clips are then drawn one by one.
    fields:           more fields of the request. NAG avoids the negative prompts.
    """
    negative_prompts = negative_prompts or [""] * len(prompts)
    memory, drawn = DeviceMemory("cpu"), list[np.ndarray]()
    if not guided:
        fields |= {"guidance_scale": 1.0, "guidance_scale_2": 1.0}
    plan = plan_of(t2v_request(prompt="any", aspect_ratio=aspect_ratio, **fields), model.family)
    schedule = Schedule.of_plan(plan)
    if without_low:
        steps = schedule.experts.count("high")
        schedule = Schedule(
            schedule.sigmas[: steps + 1], schedule.timesteps[:steps], schedule.experts[:steps]
        )
    ranges = ranges or [(prompt,) for prompt in prompts]
    at_once = _AT_ONCE if new_cache is None else 1
    for start in range(0, len(prompts), at_once):
        chosen = slice(start, start + at_once)
        count = len(prompts[chosen])
        texts = [*chain.from_iterable(ranges[chosen]), *negative_prompts[chosen]]
        encoded = [text.embeddings for text in encode_prompts(model, texts, memory, Silent())]
        noise = torch.cat([initial_noise((1, *plan.latent_shape), start + index) for index in range(count)])
        positive, negative = torch.cat(encoded[:-count]), torch.cat(encoded[-count:])
        relay, each = plan.prompt_relay, [encoded[0].shape[1]] * len(ranges[0])
        seen = None if relay is None else relay.seen(each)
        positive = positive.reshape(count, sum(each), -1)  # the texts of a clip, one after another
        latents = sample(
            model,
            Sampling(schedule, plan.solver, plan.guidance, plan.extra_guidance),
            StartLatents(torch.zeros_like(noise), noise),
            Prompts(Condition(positive, seen=seen), Condition(negative), negative),
            memory,
            Silent(),
            cache=None if new_cache is None else new_cache(schedule),
        )
        drawn += [pixels(model, clip, memory, plan.frames_delivered) for clip in latents.split(1)]
    return drawn


def pixels(model: WanModel, latents: torch.Tensor, memory: DeviceMemory, count: int) -> np.ndarray:
    """The first `count` frames of one clip's latents: (T, H, W, 3) uint8, before encoding."""
    frames = torch.stack(list(decode(model, latents, memory, Silent(), frames=count)))
    return ((frames.permute(0, 2, 3, 1) + 1) * 127.5).round().clamp(0, 255).byte().numpy()


def unseen_prompts(count: int, seed: int, motion: str | None = None) -> list[tuple[Scene, str]]:
    """Scenes that no training saw, each in one of its phrasings; `motion` replaces theirs."""
    rng = np.random.default_rng(seed)
    scenes = [random_scene(rng, held_out_scenes()) for _ in range(count)]
    scenes = [scene.with_motion(motion) if motion else scene for scene in scenes]
    return [(scene, prompt_of(scene, rng)) for scene in scenes]


def followed(
    pairs: Sequence[tuple[Scene, str]], drawer: Callable[[Sequence[str]], list[np.ndarray]]
) -> list[tuple[Scene, Seen]]:
    """Every prompt drawn, and what is seen in it."""
    clips = drawer([prompt for _, prompt in pairs])
    return [(scene, look_at(clip)) for (scene, _), clip in zip(pairs, clips, strict=True)]


def colourless_prompt(scene: Scene) -> str:
    return f"a {scene.shape} {'spinning' if scene.motion == 'spinning' else 'moving right'}"


def exchanged(model: WanModel) -> WanModel:
    """The same model with its experts in each other's place."""
    return replace(
        model, experts=MappingProxyType({"high": model.experts["low"], "low": model.experts["high"]})
    )


def graininess(frames: np.ndarray) -> float:
    """Mean distance of a pixel from the median of its 3x3 neighbours, of 255: noise counts, edges do not."""
    pixels = frames.astype(np.float32)
    around = np.stack([np.roll(pixels, (dy, dx), (1, 2)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)])
    return float(np.abs(pixels - np.median(around, axis=0))[:, 1:-1, 1:-1].mean())
