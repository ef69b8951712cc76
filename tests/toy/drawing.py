"""Draws with the embedded model and looks at the result, for the tests and for bench/embedded_model.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import torch
from detector import Seen, look_at

from wan_duet.pipelines.memory import DeviceMemory
from wan_duet.pipelines.models.wan_model import WanModel
from wan_duet.pipelines.plan import make_plan
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request import t2v_request
from wan_duet.pipelines.sampling.engine import Condition, Prompts
from wan_duet.pipelines.sampling.noise import draw_noise
from wan_duet.pipelines.sampling.schedule import Schedule
from wan_duet.pipelines.stages import decode, encode_prompts, sample
from wan_duet.pipelines.toy.grammar import Scene, held_out_scenes, prompt_of, random_scene

__all__ = ["PROPERTIES", "colourless_prompt", "draw", "exchanged", "followed", "graininess", "unseen_prompts"]

PROPERTIES = ("colour", "background", "motion", "shape")


def draw(
    model: WanModel,
    prompt: str,
    seed: int,
    *,
    negative_prompt: str = "",
    aspect_ratio: str = "1:1",
    guided: bool = True,
    without_low: bool = False,
) -> np.ndarray:
    """(T, H, W, 3) uint8 before encoding, at the default settings of a request.

    guided:      False sets both guidance scales to 1.
    without_low: stop at the boundary and decode what the high expert left.
    """
    memory, values = DeviceMemory("cpu"), {} if guided else {"guidance_scale": 1.0, "guidance_scale_2": 1.0}
    request = t2v_request(prompt=prompt, negative_prompt=negative_prompt, aspect_ratio=aspect_ratio, **values)
    plan = make_plan(request, model.family, seed)
    positive, negative = encode_prompts(model, [prompt, negative_prompt], memory, Silent())
    prompts = Prompts(Condition(positive.embeddings), Condition(negative.embeddings))
    schedule = Schedule.of_plan(plan)
    if without_low:
        steps = schedule.experts.count("high")
        schedule = Schedule(
            schedule.sigmas[: steps + 1], schedule.timesteps[:steps], schedule.experts[:steps]
        )
    shape = (1, *plan.latent_shape)
    latents = sample(
        model,
        schedule,
        plan.solver,
        torch.zeros(shape),
        draw_noise(shape, seed),
        prompts,
        plan.guidance,
        memory,
        Silent(),
    )
    frames = torch.stack(list(decode(model, latents, memory, Silent(), frames=plan.frames_delivered)))
    return ((frames.permute(0, 2, 3, 1) + 1) * 127.5).round().clamp(0, 255).byte().numpy()


def unseen_prompts(count: int, seed: int) -> list[tuple[Scene, str]]:
    """Scenes that no training saw, each in one of its phrasings."""
    rng = np.random.default_rng(seed)
    scenes = [random_scene(rng, held_out_scenes()) for _ in range(count)]
    return [(scene, prompt_of(scene, rng)) for scene in scenes]


def followed(
    pairs: Iterable[tuple[Scene, str]], drawer: Callable[[str, int], np.ndarray]
) -> list[tuple[Scene, Seen]]:
    """Every prompt drawn with its number as seed, and what is seen in it."""
    return [(scene, look_at(drawer(prompt, seed))) for seed, (scene, prompt) in enumerate(pairs)]


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
