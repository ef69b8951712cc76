"""How a stage spends its steps: warm up, hold, cool down; stop at a deadline; save every minute."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from .checkpoint import TrainingState

__all__ = ["Figures", "Run", "fast_in_bfloat16", "learning_rate_factor", "train_steps"]

Figures = Mapping[str, float | torch.Tensor]

log = logging.getLogger(__name__)

_WARMUP_STEPS = 100
_COOLDOWN_SHARE = 0.25
_SAVE_EVERY_S = 60.0


@dataclass(frozen=True)
class Run:
    """Where a training call writes, what it runs on, and when (time.monotonic) it must be back."""

    out: Path
    device: torch.device
    deadline_s: float
    resume: bool = True
    scale: float = 1.0  # of the steps of every stage: below 1 for a shorter training
    workers: int = 2
    report_every_s: float = 60.0
    preview_every_s: float = 900.0  # infinite: never, not even at the end
    most_steps: int | None = None  # of any stage in this call
    statistics_clips: int = 96  # for the mean and standard deviation of the latents
    by_clock: bool = False  # a stage lasts until the deadline, and its learning rate falls with the time left
    compiled: bool = False  # the blocks of the experts, by torch.compile

    @property
    def fast(self) -> bool:
        return self.device.type == "cuda"

    def autocast(self, convolutions: bool = False) -> torch.autocast:
        """bfloat16 where it is faster: for the VAE's convolutions only on a GPU."""
        enabled = self.fast if convolutions else fast_in_bfloat16(self.device)
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)

    def short_attention(self) -> AbstractContextManager[None]:
        """On a CPU plain matrix products: over a hundred tokens its flash attention is slower backwards."""
        choice: AbstractContextManager[None] = nullcontext() if self.fast else sdpa_kernel(SDPBackend.MATH)
        return choice

    def checkpoint(self, stage: str) -> Path:
        return self.out / "checkpoints" / f"{stage}.pt"

    def trained_steps(self, stage: str) -> int:
        saved = torch.load(self.checkpoint(stage), map_location="cpu", weights_only=True, mmap=True)
        return int(saved["step"])


def fast_in_bfloat16(device: torch.device) -> bool:
    """Whether matrices multiply faster in bfloat16: on GPUs, and on CPUs made for it (2.7 times)."""
    if device.type != "cpu":
        return True
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def learning_rate_factor(step: int, steps: int) -> float:
    """Linear warm-up, then 1, then a straight line to 0.05 over the last quarter."""
    cooldown = max(1, int(steps * _COOLDOWN_SHARE))
    left = max(0, steps - step)
    return min(1.0, (step + 1) / _WARMUP_STEPS) * (1.0 if left >= cooldown else 0.05 + 0.95 * left / cooldown)


def train_steps(
    stage: str,
    run: Run,
    steps: int,
    state: TrainingState,
    train_step: Callable[[int], tuple[torch.Tensor, Figures]],
    preview: Callable[[int], Figures] | None = None,
) -> bool:
    """Advance `state` to `steps` or to the deadline; True when the stage is complete.

    `train_step(step)` gives the loss and what to report; `preview(step)` measures the averaged weights.
    """
    path = run.checkpoint(stage)
    if run.resume and path.exists():
        state.load(path, run.device)
        log.info("%s: resumed at step %d", stage, state.step)
    base_rates = [
        [group.setdefault("base_lr", group["lr"]) for group in o.param_groups] for o in state.optimizers
    ]
    parameters = [p for module in state.modules.values() for p in module.parameters() if p.requires_grad]
    saved_at = reported_at = time.monotonic()
    previewed_at, reported_step = saved_at, state.step
    last = steps if run.most_steps is None else min(steps, state.step + run.most_steps)
    began, first = saved_at, state.step
    while (run.by_clock or state.step < last) and time.monotonic() < run.deadline_s:
        if run.by_clock:
            gone = (time.monotonic() - began) / (run.deadline_s - began)
            steps = state.step + 1 + round((state.step - first) * (1 - gone) / max(gone, 1e-3))
        factor = learning_rate_factor(state.step, steps)
        for optimizer, rates in zip(state.optimizers, base_rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            optimizer.zero_grad(set_to_none=True)
        loss, figures = train_step(state.step)
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in state.optimizers:
            optimizer.step()
        state.advance()
        now = time.monotonic()
        at_end = now >= run.deadline_s if run.by_clock else state.step == steps
        if now - reported_at >= run.report_every_s or at_end:
            speed = (state.step - reported_step) / max(1e-9, now - reported_at)
            _report(
                run, stage, state.step, {**figures, "loss": loss.detach(), "norm": norm, "steps_per_s": speed}
            )
            reported_at, reported_step = now, state.step
        if (
            preview
            and math.isfinite(run.preview_every_s)
            and (now - previewed_at >= run.preview_every_s or at_end)
        ):
            with state.averaged(), torch.no_grad():
                _report(run, stage, state.step, preview(state.step))
            previewed_at = reported_at = time.monotonic()
            reported_step = state.step
        if now - saved_at >= _SAVE_EVERY_S:
            state.save(path)
            saved_at = time.monotonic()
    state.save(path)
    if run.by_clock:
        log.info("%s: %d steps in the time given", stage, state.step)
        return True
    return state.step >= steps


def _report(run: Run, stage: str, step: int, figures: Figures) -> None:
    plain = {name: round(float(value), 6) for name, value in figures.items()}
    if not all(map(math.isfinite, plain.values())):
        raise FloatingPointError(f"{stage}, step {step}: {plain}; resume from the checkpoint before it")
    log.info("%s %d  %s", stage, step, "  ".join(f"{name} {value:.4g}" for name, value in plain.items()))
    with (run.out / "progress.jsonl").open("a") as lines:
        lines.write(json.dumps({"stage": stage, "step": step, "at": round(time.time()), **plain}) + "\n")
