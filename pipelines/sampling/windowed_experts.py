"""Predicts a long clip window by window: experts for the denoise loop, around the experts of a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ..plan.context_windows import ContextWindows, steps_of_stages
from ..plan.fuse_weights import shares
from ..progress import Progress
from .engine import Condition, Engine, Experts
from .schedule import Schedule

__all__ = ["WindowProgress", "WindowedExperts", "free_noise"]


class WindowProgress:
    """Progress of a loop over steps that counts windows on its way to `progress`."""

    def __init__(self, progress: Progress, forwards: int) -> None:
        """forwards: how many windows the whole run predicts."""
        self._progress, self._forwards, self._done = progress, forwards, 0

    def begin(self, stage: str, total: int, unit: str) -> None:
        del total, unit
        self._progress.begin(stage, self._forwards, "windows")

    def advance(self, done: int, preview: Callable[[], Tensor] | None = None) -> None:
        del done
        self._progress.advance(self._done, preview)

    def window(self) -> None:
        """Report one more window."""
        self._done += 1
        self._progress.advance(self._done)

    def check(self) -> None:
        self._progress.check()


class WindowedExperts:
    """Experts that predict a clip as the mean of its windows, as ComfyUI's context windows do."""

    def __init__(
        self, experts: Experts, schedule: Schedule, windows: ContextWindows, progress: WindowProgress
    ) -> None:
        self._experts, self._windows, self._progress = experts, windows, progress
        steps = zip(schedule.networks, schedule.timesteps, steps_of_stages(schedule.experts), strict=True)
        self._steps: dict[str, dict[float, int]] = {}
        for name, timestep, step in steps:
            # Of two steps at one timestep the first counts, as in ComfyUI.
            self._steps.setdefault(name, {}).setdefault(timestep, step)

    def use(self, expert: str) -> Engine:
        engine = self._experts.use(expert)
        return _WindowedEngine(engine, self._steps[expert], self._windows, self._progress)


class _WindowedEngine:
    def __init__(
        self, engine: Engine, steps: dict[float, int], windows: ContextWindows, progress: WindowProgress
    ) -> None:
        self._engine, self._steps, self._windows, self._progress = engine, steps, windows, progress

    def predict(self, latents: Tensor, timestep: float, condition: Condition) -> Tensor:
        settings, velocity = self._windows, torch.zeros_like(latents)
        windows = settings.at(self._steps[timestep])
        of_windows = shares(settings.fuse, windows, settings.frames, settings.overlap)
        for window, share in zip(windows, of_windows, strict=True):
            self._progress.check()
            # The VAE's first latent frame holds one pixel frame, the others four. A later window sees the
            # frame before it too, so that none of its own is drawn as the first of a clip.
            before = (window[0] - 1,) if window[0] else ()
            frames = torch.tensor((*before, *window), device=latents.device)
            seen, beside = self._seen(latents, condition, frames)
            part = self._engine.predict(seen, timestep, beside)[:, :, len(before) :]
            weights = torch.from_numpy(share).to(part).view(1, 1, -1, 1, 1)
            velocity.index_add_(2, frames[len(before) :], part * weights)
            self._progress.window()
        return velocity

    def _seen(self, latents: Tensor, condition: Condition, frames: Tensor) -> tuple[Tensor, Condition]:
        """Return latents and condition of these frames of the clip. frames: (N,) of int64."""
        taken = frames.clone()
        seen = None if condition.seen is None else tuple(condition.seen[frame] for frame in frames.tolist())
        if self._windows.retain_first:
            taken[0] = 0
        channels = None if condition.channels is None else condition.channels.index_select(2, taken)
        if condition.clean_frames is None:
            return latents.index_select(2, frames), replace(condition, channels=channels, seen=seen)
        # The images are latent frames themselves.
        clean = condition.clean_frames.index_select(0, taken)
        beside = replace(condition, channels=channels, clean_frames=clean, seen=seen)
        return latents.index_select(2, taken), beside


def free_noise(noise: Tensor, windows: ContextWindows, seed: int) -> Tensor:
    """Return `noise` (B, C, T, H/8, W/8) with the frames behind the first window taken from those before.

    Each stretch of them, as long as a window without its overlap, is the stretch one window earlier, shuffled
    (FreeNoise, arxiv.org/abs/2310.15169, section 3.2), by the numbers that ComfyUI draws. seed: of the run.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    shuffled, advance = noise.clone(), windows.length - windows.overlap
    for start in range(0, windows.frames - windows.length, advance):
        place = start + windows.length
        count = min(advance, windows.frames - place)
        order = torch.randperm(count, generator=generator) + start
        shuffled[:, :, place : place + count] = shuffled[:, :, order]
    return shuffled
