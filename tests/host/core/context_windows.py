"""Prints how far our windows are from those of ComfyUI's handler, for one and the same made-up network.

{case: largest difference}: of the clean estimate of a clip, for every schedule and fuse method, with and
without images, and of FreeNoise.
"""

import itertools
import json
import sys
from types import SimpleNamespace

import torch
from comfy import conds
from comfy.context_windows import (
    IndexListContextHandler,
    apply_freenoise,
    get_matching_context_schedule,
    get_matching_fuse_method,
)
from pack.pipelines.plan.context_windows import ContextWindows
from pack.pipelines.progress import Silent
from pack.pipelines.sampling.engine import Condition
from pack.pipelines.sampling.schedule import Schedule
from pack.pipelines.sampling.windowed_experts import WindowedExperts, WindowProgress, free_noise

SIGMAS = (1.0, 0.9, 0.7, 0.4, 0.0)
SCHEDULES = ("standard_static", "standard_uniform", "looped_uniform", "batched")
FUSES = ("pyramid", "relative", "flat", "overlap-linear")
FRAMES = 17
MODEL = SimpleNamespace(
    latent_format=SimpleNamespace(temporal_downscale_ratio=4),
    resize_cond_for_context_window=lambda *_, **__: None,  # as WAN21 has it for all that Wan 2.2 knows
)


def clean_of(latents, sigma, channels, sampled):
    """A network that mixes the frames: what it returns depends on what a window shows, and where."""
    place = torch.arange(latents.shape[2]).view(1, 1, -1, 1, 1)
    mixed = latents.cumsum(2).sin() + 0.1 * place + sigma
    return mixed + (0 if channels is None else channels.mean(1, keepdim=True)) + 0.5 * sampled


class Ours:
    """The network as an engine of our loop."""

    def use(self, expert):
        return self

    def predict(self, latents, timestep, condition):
        sampled = torch.ones(1) if condition.clean_frames is None else ~condition.clean_frames
        seen = clean_of(latents, timestep / 1000, condition.channels, sampled.float().view(1, 1, -1, 1, 1))
        return (latents - seen) / (timestep / 1000)


def theirs(handler, latents, sigma, channels, sampled):
    """ComfyUI's result: with the network as its model."""

    def calc(model, of_prompts, seen, timestep, options):
        given = [each[0]["model_conds"] for each in of_prompts]
        parts = [{name: part.cond for name, part in each.items()} for each in given]
        return [
            clean_of(seen, float(timestep[0]), each.get("c_concat"), each.get("denoise_mask", torch.ones(1)))
            for each in parts
        ]

    made = {} if channels is None else {"c_concat": conds.CONDNoiseShape(channels)}
    if sampled is not None:
        made["denoise_mask"] = conds.CONDRegular(sampled.float().view(1, 1, -1, 1, 1))
    options = {"transformer_options": {"sample_sigmas": torch.tensor(SIGMAS)}}
    given = [[{"model_conds": dict(made)}], [{"model_conds": dict(made)}]]
    positive, _ = handler.execute(calc, MODEL, given, latents, torch.tensor([sigma]), options)
    return positive


def difference(settings, step, channels, sampled):
    generator = torch.Generator().manual_seed(step)
    latents = torch.randn(1, 16, FRAMES, 2, 2, generator=generator)
    windows = ContextWindows(frames=FRAMES, **settings)
    retained = "0" if windows.retain_first else ""
    handler = IndexListContextHandler(
        get_matching_context_schedule(windows.schedule),
        get_matching_fuse_method(windows.fuse),
        windows.length,
        windows.overlap,
        windows.stride,
        windows.closed_loop,
        dim=2,
        cond_retain_index_list=retained,
        latent_retain_index_list=retained if sampled is not None else "",  # the 5B's image is a latent frame
    )
    sigma = SIGMAS[step]
    exact = theirs(handler, latents, sigma, channels, sampled)
    count = len(SIGMAS) - 1
    schedule = Schedule(SIGMAS, tuple(1000 * each for each in SIGMAS[:-1]), ("high",) * count)
    condition = Condition(torch.zeros(1), channels, clean_frames=None if sampled is None else ~sampled)
    experts = WindowedExperts(Ours(), schedule, windows, WindowProgress(Silent(), 1))
    velocity = experts.use("high").predict(latents, 1000 * sigma, condition)
    return float((latents - sigma * velocity - exact).abs().max())


generator = torch.Generator().manual_seed(0)
image = torch.randn(1, 20, FRAMES, 2, 2, generator=generator)
first = torch.arange(FRAMES) > 0
images = {"text": (None, None), "image": (image, None), "5B": (None, first)}
found = {}
for schedule, fuse, (kind, given), retain in itertools.product(
    SCHEDULES, FUSES, images.items(), (False, True)
):
    settings = {"length": 7, "overlap": 3, "schedule": schedule, "fuse": fuse, "retain_first": retain}
    settings |= {"stride": 1, "closed_loop": retain, "freenoise": False}
    name = f"{kind}, {schedule}, {fuse}, retained {retain}"
    found[name] = max(difference(settings, step, *given) for step in range(len(SIGMAS) - 1))
for schedule, fuse in itertools.product(("standard_uniform", "looped_uniform"), FUSES):
    settings = {"length": 4, "overlap": 1, "schedule": schedule, "fuse": fuse, "retain_first": False}
    settings |= {"stride": 2, "closed_loop": False, "freenoise": False}
    found[f"stride 2, {schedule}, {fuse}"] = max(difference(settings, step, None, None) for step in range(2))
for length, overlap in ((7, 3), (5, 0), (8, 7)):
    windows = ContextWindows(FRAMES, length, overlap, "batched", 1, False, "flat", False, True)
    noise = torch.randn(1, 16, FRAMES, 2, 2, generator=generator)
    shuffled = free_noise(noise, windows, 11)
    apart = (shuffled - apply_freenoise(noise.clone(), 2, length, overlap, 11)).abs().max()
    found[f"freenoise {length} {overlap}"] = float(apart)
sys.stdout.write(json.dumps(found) + "\n")
