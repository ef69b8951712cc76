"""The colours of a continued shot are measured against those before it, and corrected on request."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wan_duet.pipelines.request.joins import Join
from wan_duet.pipelines.video.colour_drift import Drift
from wan_duet.pipelines.video.frame_stream import Frame
from wan_duet.pipelines.video.joined import joined

CUT, CONTINUE = Join("cut"), Join("continue")


def second_shot(first: Sequence[Frame], second: Sequence[Frame], drift: Drift, join: Join) -> list[Frame]:
    """Return what is shown of the second of two shots."""
    return list(joined([CUT, join], lambda number, _: iter((first, second)[number]), drift))[len(first) :]


def farthest(made: Sequence[Frame], right: Sequence[Frame]) -> int:
    return max(int(np.abs(mine.astype(int) - its).max()) for mine, its in zip(made, right, strict=True))


def scene(moved: int, pan: int = 0) -> Frame:
    """Return a room of several colours (48, 64, 3), in which a bright box has moved so many pixels."""
    y, x = np.mgrid[:48, pan : 64 + pan]
    room = np.stack([90 + x, 150 - y, 120 + 20 * np.sin(x / 9) + 20 * np.cos(y / 7)], -1)
    room[12:34, 4 + moved : 20 + moved] = 220, 40, 30
    return np.rint(room).astype(np.uint8)


def faded(frame: Frame, gain: float, offset: float) -> Frame:
    return np.rint(np.clip(frame * gain + offset, 0, 255)).astype(np.uint8)


@pytest.mark.parametrize("matched", [False, True])
@pytest.mark.parametrize("shown", [1, 2, 9])
def test_a_drift_of_colours_is_measured_and_corrected_if_asked(matched: bool, shown: int) -> None:
    room = np.random.default_rng(3).integers(60, 180, (8, 8, 3)).astype(np.uint8)
    other = (room * 0.5 + np.array([10, 20, 30])).round().astype(np.uint8)
    drift = Drift(matched)
    made = second_shot([room], [other] * (shown + 1), drift, CONTINUE)
    expected = other.mean(axis=(0, 1)) - room.mean(axis=(0, 1))
    assert drift.per_shot == {1: pytest.approx(expected.tolist(), abs=1e-3)}
    assert (farthest(made, [room] * shown) <= 2) == matched


@pytest.mark.parametrize("pan", [0, 1])
@settings(max_examples=30, deadline=None)
@given(
    gain=st.floats(0.85, 1.1),
    offset=st.floats(-8, 12),
    speed=st.integers(0, 3),
    join=st.sampled_from([CONTINUE, Join("overlap", 5)]),
)
def test_what_moves_is_no_change_of_colours(
    pan: int, gain: float, offset: float, speed: int, join: Join
) -> None:
    frames = [scene(number * speed, number * pan) for number in range(14)]
    first, right = frames[:6], frames[6:]
    second = [faded(frame, gain, offset) for frame in [*first[-join.given :], *right]]
    made = second_shot(first, second, Drift(matched=True), join)
    assert farthest(made, right) <= (3 if pan == 0 else 8)


def test_a_shot_whose_colours_stay_is_not_changed_by_a_first_frame_that_differs() -> None:
    """The VAE decodes the first frame of a shot otherwise than those after it. That frame is not shown."""
    frames = [scene(number) for number in range(12)]
    second = [faded(frames[5], 1, 3), *frames[6:]]
    drift = Drift(matched=True)
    assert farthest(second_shot(frames[:6], second, drift, CONTINUE), frames[6:]) <= 1
    assert np.abs(drift.per_shot[1]).max() < 0.2


def test_a_flat_image_has_its_level_corrected_and_no_contrast_made_of_noise() -> None:
    noise = np.random.default_rng(5)
    flat = [
        np.full((16, 16, 3), 100, np.uint8) + noise.integers(0, 2, (16, 16, 3), np.uint8) for _ in range(8)
    ]
    made = second_shot(flat[:3], [frame + np.uint8(6) for frame in flat[2:]], Drift(matched=True), CONTINUE)
    assert farthest(made, flat[3:]) <= 1


def test_a_shot_that_cuts_has_colours_of_its_own() -> None:
    drift = Drift(matched=True)
    dark = [faded(scene(0), 0.5, 0)] * 3
    assert farthest(second_shot([scene(0)] * 3, dark, drift, CUT), dark) == 0
    assert drift.per_shot == {}
