"""EasyCache decides as its authors' code, and a skipped forward runs nothing of the network."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from wan_duet.pipelines.plan.cache_choice import CacheChoice
from wan_duet.pipelines.sampling.cached_forward import BlockCache
from wan_duet.pipelines.sampling.engine import Condition
from wan_duet.pipelines.sampling.schedule import Schedule
from wan_duet.pipelines.sampling.step_cache import StepCache

STEPS = 30
BOTH = [Condition(torch.zeros(1, 1, 1)), Condition(torch.ones(1, 1, 1))]
TIMESTEPS = tuple(1000.0 - 30 * step for step in range(STEPS))


@dataclass
class Network:
    """A velocity that bends with the latents; counts its forwards."""

    computed: list[tuple[float, int]] = field(default_factory=list)

    def use(self, expert: str) -> Network:
        return self

    def predict(
        self, latents: Tensor, timestep: float, condition: Condition, cache: BlockCache | None = None
    ) -> Tensor:
        assert cache is None
        self.computed.append((timestep, BOTH.index(condition)))
        return torch.tanh(2 * latents + timestep / 1000) * (1.5 if condition is BOTH[0] else 1.0)


def started() -> Tensor:
    return torch.randn(1, 4, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def run(threshold: float, experts: tuple[str, ...]) -> tuple[Tensor, Network, StepCache]:
    network = Network()
    cache = StepCache(CacheChoice("easycache", threshold), Schedule((*TIMESTEPS, 0.0), TIMESTEPS, experts))
    engines, latents = cache.around(network), started()
    for timestep, expert in zip(TIMESTEPS, experts, strict=True):
        engine = engines.use(expert)
        positive, negative = (engine.predict(latents, timestep, each) for each in BOTH)
        latents = latents - 0.02 * (negative + 3 * (positive - negative))
    return latents, network, cache


def published(threshold: float) -> tuple[Tensor, list[tuple[float, int]]]:
    """The same run with the rules of EasyCache4Wan2.1/easycache_generate.py, in double precision."""
    latents, computed = started().double(), list[tuple[float, int]]()
    network = Network()
    rate = previous = before = outputs = None
    error, offsets = 0.0, dict[int, Tensor]()
    for step, timestep in enumerate(TIMESTEPS):
        needed = True
        if step < int(STEPS * 10 / 50) or step >= STEPS - 1:
            error = 0.0
        elif previous is not None and outputs is not None and rate is not None:
            error += rate * float((latents - previous).abs().mean() / outputs.abs().mean())
            needed = error >= threshold
            error = 0.0 if needed else error
        previous = latents
        found = []
        for which, condition in enumerate(BOTH):
            if not needed:
                found.append(latents + offsets[which])
                continue
            computed.append((timestep, which))
            velocity = network.predict(latents, timestep, condition)
            if which == 0:
                if outputs is not None and before is not None:
                    rate = float((velocity - outputs).abs().mean() / (latents - before).abs().mean())
                before, outputs = latents, velocity
            offsets[which] = velocity - latents
            found.append(velocity)
        latents = latents - 0.02 * (found[1] + 3 * (found[0] - found[1]))
    return latents, computed


@pytest.mark.parametrize("threshold", [0.05, 0.1, 0.2])
def test_it_skips_what_the_authors_skip(threshold: float) -> None:
    latents, network, cache = run(threshold, ("high",) * STEPS)
    expected, computed = published(threshold)
    assert network.computed == computed
    torch.testing.assert_close(latents.double(), expected, rtol=1e-4, atol=1e-5)
    counted = cache.as_dict()
    assert counted["forwards"] == {"high": 2 * STEPS}
    assert counted["skipped"] == {"high": 2 * STEPS - len(computed)}
    assert counted["skipped"]["high"] > 0


def test_the_first_fifth_and_the_last_step_are_computed_and_the_negative_prompt_follows() -> None:
    _, network, _ = run(1e9, ("high",) * STEPS)
    steps = [TIMESTEPS.index(timestep) for timestep, _ in network.computed]
    assert sorted(set(steps)) == [*range(STEPS // 5), STEPS - 1]
    assert all(steps.count(step) == 2 for step in steps)


def test_nothing_is_carried_over_the_boundary() -> None:
    """The low-noise expert computes until it knows how its own velocity changes: twice."""
    _, network, cache = run(1e9, ("high",) * 15 + ("low",) * 15)
    steps = [TIMESTEPS.index(timestep) for timestep, _ in network.computed]
    assert sorted(set(steps)) == [*range(STEPS // 5), 15, 16, STEPS - 1]
    assert set(cache.as_dict()["skipped"]) == {"high", "low"}


def test_at_the_smallest_threshold_every_forward_is_computed() -> None:
    assert len(run(1e-30, ("high",) * STEPS)[1].computed) == 2 * STEPS
