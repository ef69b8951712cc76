"""A sampler that follows another one starts where that one ended, with noise that is there once."""

from __future__ import annotations

import pytest

from wan_duet.pipelines.errors import SamplingError
from wan_duet.pipelines.sampling.chained import (
    AddNoise,
    Incoming,
    adds_noise,
    left_in_decoded,
    require_own_steps,
    starting_findings,
)

EMPTY = Incoming(0.0, empty=True)  # of Empty Latent
CLEAN = Incoming(0.0, empty=False)  # of Video Condition, or of a finished run
NOISY = Incoming(0.875, empty=False)  # of the high stage
FOREIGN = Incoming(None, empty=False)  # of another pack
FOREIGN_EMPTY = Incoming(None, empty=True)
CHANGED = Incoming(None, empty=False, changed=True)


@pytest.mark.parametrize(
    ("choice", "incoming", "start", "adds"),
    [
        ("auto", EMPTY, 1.0, True),
        ("auto", FOREIGN_EMPTY, 1.0, True),
        ("auto", CLEAN, 0.5, True),
        ("auto", FOREIGN, 0.5, True),
        ("auto", NOISY, 0.875, False),
        ("off", NOISY, 0.875, False),
        ("was on", NOISY, 0.875, False),
        ("was on", EMPTY, 1.0, True),
        ("on", EMPTY, 1.0, True),
        ("on", CLEAN, 0.5, True),
        ("on", CHANGED, 0.5, True),
        ("off", FOREIGN, 0.5, False),
        ("off", CHANGED, 0.5, False),
    ],
)
def test_noise_is_added_once(choice: AddNoise, incoming: Incoming, start: float, adds: bool) -> None:
    assert adds_noise(choice, incoming, start) is adds


@pytest.mark.parametrize("choice", ["auto", "on", "off", "was on"])
@pytest.mark.parametrize("start", [1.0, 0.876, 0.874, 0.75])
def test_noise_levels_that_do_not_continue_are_refused(choice: AddNoise, start: float) -> None:
    with pytest.raises(SamplingError, match=rf"sigmas: start at {start:g}, but the latent .* level 0.875"):
        adds_noise(choice, NOISY, start)


@pytest.mark.parametrize(
    ("choice", "incoming", "start", "why"),
    [
        ("on", NOISY, 0.875, "add_noise: on, but the latent has noise level 0.875 already"),
        ("off", EMPTY, 1.0, "add_noise: off, but the latent is empty"),
        ("off", FOREIGN_EMPTY, 1.0, "add_noise: off, but the latent is empty"),
        ("off", FOREIGN_EMPTY, 0.5, "add_noise: off, but the latent is empty"),
        ("off", CLEAN, 0.5, "add_noise: off, but the latent has no noise"),
        ("off", FOREIGN, 1.0, "add_noise: off, but the latent has no noise"),
        ("auto", CHANGED, 0.5, "add_noise: auto, but a node has changed the latent"),
    ],
)
def test_a_start_that_cannot_be_right_is_refused(
    choice: AddNoise, incoming: Incoming, start: float, why: str
) -> None:
    with pytest.raises(SamplingError, match=why):
        adds_noise(choice, incoming, start)


@pytest.mark.parametrize(
    ("choice", "incoming", "start", "field"),
    [
        ("auto", EMPTY, 1.0, None),
        ("auto", EMPTY, 0.999, None),
        ("auto", EMPTY, 0.83, "latent"),
        ("on", FOREIGN_EMPTY, 0.83, "latent"),
        ("auto", CLEAN, 0.5, None),
        ("auto", FOREIGN, 0.5, "add_noise"),
        ("auto", FOREIGN, 1.0, None),
        ("on", FOREIGN, 0.5, None),
        ("off", FOREIGN, 0.5, None),
        ("auto", NOISY, 0.875, None),
        ("off", NOISY, 0.875, None),
        ("was on", NOISY, 0.875, "add_noise"),
        ("was on", EMPTY, 1.0, None),
    ],
)
def test_a_start_that_may_not_be_meant_is_told(
    choice: AddNoise, incoming: Incoming, start: float, field: str | None
) -> None:
    found = starting_findings(choice, incoming, start)
    assert [finding.field for finding in found] == ([] if field is None else [field])


@pytest.mark.parametrize(
    ("stage", "timesteps", "boundary"),
    [
        ("high", (1000.0, 937.5), 0.875),
        ("high", (1000.0, 875.0), 0.875),  # a timestep on the boundary is the high expert's
        ("low", (833.3, 625.0), 0.875),
        ("low", (1000.0, 500.0), 0.875),  # the low expert alone
        ("high", (1000.0, 500.0), 0.875),
        ("low", (1000.0, 900.0), None),  # one expert
        ("low", (), 0.875),
    ],
)
def test_steps_of_the_stage_pass(stage: str, timesteps: tuple[float, ...], boundary: float | None) -> None:
    require_own_steps(stage, timesteps, boundary)


@pytest.mark.parametrize(
    ("stage", "timesteps", "other"), [("low", (1000.0, 875.0), "high"), ("high", (874.9, 500.0), "low")]
)
def test_steps_that_all_belong_to_the_other_expert_are_refused(
    stage: str, timesteps: tuple[float, ...], other: str
) -> None:
    with pytest.raises(
        SamplingError, match=f"stage: {stage}, but .*; choose {other}, or connect the {stage}"
    ):
        require_own_steps(stage, timesteps, 0.875)


def test_only_noise_is_told_where_it_is_decoded() -> None:
    assert left_in_decoded(None) == left_in_decoded(0.0) == []
    (finding,) = left_in_decoded(0.8333)
    assert (
        finding.line()
        == "warning latent: has noise level 0.8333 still; run the low-noise stage before decoding"
    )
