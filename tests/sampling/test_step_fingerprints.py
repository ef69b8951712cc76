"""Fingerprints of steps: equal for equal bits, and a sketch that tells the size of a difference."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.sampling.step_fingerprints import StepFingerprints, first_difference


def taken(*steps: Tensor) -> list[dict[str, object]]:
    prints = StepFingerprints(Silent())
    prints.begin("sampling", len(steps), "steps")
    for number, step in enumerate(steps, 1):
        prints.advance(number, lambda step=step: step)
    prints.begin("decoding", 1, "frames")
    prints.advance(1, lambda: torch.zeros(1))
    return json.loads(json.dumps(prints.taken))


@pytest.fixture
def steps() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    smooth = torch.randn(4, 1, 16, 3, 1, 1, generator=generator).expand(-1, -1, -1, -1, 30, 52)
    return list(smooth + 0.1 * torch.randn(4, 1, 16, 3, 30, 52, generator=generator))


def test_only_sampling_is_recorded_and_equal_steps_are_equal(steps: list[Tensor]) -> None:
    assert len(taken(*steps)) == 4
    assert first_difference(taken(*steps), taken(*steps)) is None


@pytest.mark.parametrize("size", [1.0, 1e-2, 1e-4, 1e-6])
def test_the_size_of_a_difference_is_told_within_a_factor_of_two(steps: list[Tensor], size: float) -> None:
    sizes = []
    for seed in range(6):
        noise = torch.randn(steps[2].shape, generator=torch.Generator().manual_seed(seed))
        changed = steps[2] + size * noise * steps[2].norm() / noise.norm()
        found = first_difference(taken(*steps), taken(*steps[:2], changed, *steps[3:]))
        assert found is not None
        assert found.step == 2
        assert found.size is not None
        sizes.append(found.size)
    assert size / 2 < sum(sizes) / len(sizes) < size * 2


def test_one_value_that_differs_is_seen(steps: list[Tensor]) -> None:
    changed = steps[1].clone()
    changed[0, 3, 1, 7, 9] += 1e-3
    found = first_difference(taken(*steps), taken(steps[0], changed, *steps[2:]))
    assert found is not None
    assert found.size == pytest.approx(1e-3 / float(steps[1].norm()), rel=0.5)


def test_a_run_of_fewer_steps_differs_where_it_ends(steps: list[Tensor]) -> None:
    found = first_difference(taken(*steps), taken(*steps[:3]))
    assert found is not None
    assert (found.step, found.size) == (3, None)
    assert first_difference(taken(*steps), []) is None


def test_a_step_is_named_with_its_expert_and_clip(steps: list[Tensor]) -> None:
    found = first_difference(taken(*steps), taken(*steps[:2], *steps[3:], steps[0]))
    assert found is not None
    assert found.text(("high", "low")[:2], clips=True).startswith("step 1 of 2 of clip 2 (high-noise expert)")
