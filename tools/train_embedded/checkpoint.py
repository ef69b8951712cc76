"""The state of a training stage on disk: weights, their running average, the optimisers and the step.

A stage draws all randomness from (seed, stage, step), so the step number is the whole state of every
generator and a resumed run repeats the uninterrupted one bit for bit.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

__all__ = ["TrainingState", "randomness", "torch_randomness"]

SEED = 20261120


def randomness(stage: str, step: int) -> np.random.Generator:
    return np.random.default_rng([SEED, zlib.crc32(stage.encode()), step])


def torch_randomness(stage: str, step: int, device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(SEED + zlib.crc32(stage.encode()) * 1_000_003 + step)


@dataclass
class TrainingState:
    """What a stage trains, by name, and its exponentially averaged twin."""

    modules: Mapping[str, nn.Module]
    optimizers: list[torch.optim.Optimizer]
    decay: float = 0.999
    step: int = 0
    averages: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.averages:
            self.averages = {
                name: {key: value.detach().clone() for key, value in module.state_dict().items()}
                for name, module in self.modules.items()
            }

    @torch.no_grad()
    def advance(self) -> None:
        """Count a step and move the averages; early on they follow closely, or they would keep the noise."""
        self.step += 1
        keep = min(self.decay, (1 + self.step) / (10 + self.step))
        for name, module in self.modules.items():
            live = [value for value in module.state_dict().values() if value.is_floating_point()]
            mean = [value for value in self.averages[name].values() if value.is_floating_point()]
            torch._foreach_lerp_(mean, live, 1 - keep)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the block the modules hold the averaged weights, in eval mode."""
        live = {name: {k: v.clone() for k, v in m.state_dict().items()} for name, m in self.modules.items()}
        for name, module in self.modules.items():
            module.load_state_dict(self.averages[name])
            module.eval()
        try:
            yield
        finally:
            for name, module in self.modules.items():
                module.load_state_dict(live[name])
                module.train()

    def save(self, path: Path) -> None:
        """Written beside and renamed: a call that is killed leaves the previous checkpoint whole."""
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(".part")
        torch.save(
            {
                "step": self.step,
                "modules": {name: module.state_dict() for name, module in self.modules.items()},
                "averages": self.averages,
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            },
            half,
        )
        os.replace(half, path)

    def load(self, path: Path, device: torch.device) -> None:
        saved = torch.load(path, map_location=device, weights_only=True)
        self.step = saved["step"]
        for name, module in self.modules.items():
            module.load_state_dict(saved["modules"][name])
        self.averages = saved["averages"]
        for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
