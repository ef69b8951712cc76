"""No interpolator draws across a cut. Motion, flashes and repeated frames are not mistaken for one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from scenes import SCENES, Scene, scene

from wan_duet.pipelines.video.cuts import SCENE_THRESHOLD, marked
from wan_duet.pipelines.video.frame_stream import Frame
from wan_duet.pipelines.video.more_frames import interpolated

SIZE = (320, 176)


class Ghosts:
    """Blends the two frames, as the worst interpolator would, and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def between(self, a: Frame, b: Frame, times: Sequence[float]) -> list[Frame]:
        self.calls += 1
        return [np.rint(a * (1 - t) + b * t).astype(np.uint8) for t in times]


@cache
def drawn(name: str, t: int) -> Frame:
    return scene(name, *SIZE).frame(t)


def shot(name: str, count: int = 6) -> list[Frame]:
    return [drawn(name, t) for t in range(count)]


def elsewhere(count: int = 6) -> list[Frame]:
    """Another place of the texture."""
    return [Scene(*SIZE, pan=(400.0 + t, 300.0)).frame(1) for t in range(count)]


def flat(*rgb: int, count: int = 4) -> list[Frame]:
    return [np.full((SIZE[1], SIZE[0], 3), rgb, np.uint8)] * count


def cuts_in(frames: list[Frame], threshold: float = SCENE_THRESHOLD) -> list[int]:
    marks = marked(iter(frames), lambda frame: frame, threshold)
    return [number for number, (_, cut) in enumerate(marks) if cut]


@pytest.mark.parametrize("name", SCENES)
def test_motion_is_no_cut(name: str) -> None:
    assert cuts_in(shot(name, 8)) == []


@pytest.mark.parametrize(
    "pan", [(32.0, 0.0), (-32.0, 0.0), (32.0, 6.0), (46.0, 46.0), (-64.0, 40.0), (0.0, -46.0)]
)
def test_a_pan_by_up_to_a_fifth_of_the_width_in_a_frame_is_no_cut(pan: tuple[float, float]) -> None:
    camera = Scene(*SIZE, pan=pan)
    assert cuts_in([camera.frame(t) for t in range(5)]) == []


@pytest.mark.parametrize("name", SCENES)
def test_a_cut_from_any_motion_is_found(name: str) -> None:
    assert cuts_in([*shot(name), *elsewhere(), *shot(name)]) == [6, 12]


@pytest.mark.parametrize(
    ("a", "b"), [((255, 0, 0), (0, 0, 255)), ((0, 0, 0), (255, 255, 255)), ((30, 30, 30), (60, 20, 20))]
)
def test_a_cut_between_plain_colours_is_found(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    assert cuts_in([*flat(*a), *flat(*b)]) == [4]


def test_a_dark_cut_is_found() -> None:
    dark = [frame // 7 for frame in [*shot("mixed"), *elsewhere()]]
    assert cuts_in(dark) == [6]


@pytest.mark.parametrize("length", [1, 2])
@pytest.mark.parametrize("name", ["mixed", "fast pan"])
def test_a_flash_is_no_cut(name: str, length: int) -> None:
    frames = shot(name, 8)
    frames[3 : 3 + length] = flat(255, 255, 255, count=length)
    assert cuts_in(frames) == []


@pytest.mark.parametrize("sigma", [3, 20])
def test_grain_is_no_cut(sigma: float) -> None:
    random = np.random.default_rng(sigma)
    grainy = [frame + random.normal(0, sigma, frame.shape) for frame in flat(40, 40, 40, count=8)]
    assert cuts_in([frame.clip(0, 255).astype(np.uint8) for frame in grainy]) == []


def test_cuts_are_the_same_ones_backwards() -> None:
    frames = [*shot("fast pan"), *elsewhere(4)]
    assert cuts_in(frames[::-1]) == [4]


def test_a_small_thing_that_moves_before_a_still_background_is_drawn() -> None:
    first, second = np.zeros((2, SIZE[1], SIZE[0], 3), np.uint8)
    first[80:84, 80:84] = second[80:84, 88:92] = 255
    ghosts = Ghosts()
    list(interpolated(iter([first, second]), ghosts, 1))
    assert ghosts.calls == 1


def test_a_threshold_of_1_finds_no_cut() -> None:
    frames = [*shot("mixed"), *elsewhere()]
    assert cuts_in(frames, 1.0) == []


def test_across_a_cut_the_nearer_frame_is_repeated() -> None:
    frames = [*shot("mixed", 3), *elsewhere(3)]
    made = list(interpolated(iter(frames), Ghosts(), 4))
    assert len(made) == 5 * 5 + 1
    for number in range(2 * 5, 3 * 5 + 1):  # between the frames 2 and 3
        nearer = frames[2] if number - 2 * 5 < 2.5 else frames[3]
        assert np.array_equal(made[number], nearer)
    assert not np.array_equal(made[1], frames[0])


def test_a_repeated_frame_is_repeated_and_not_drawn() -> None:
    first, second = shot("mixed", 2)
    noisy = first.copy()
    noisy[::8, ::8] += np.uint8(first[::8, ::8] < 255)  # what an encoder leaves
    ghosts = Ghosts()
    made = list(interpolated(iter([first, noisy, first, second]), ghosts, 1))
    assert ghosts.calls == 1
    assert np.array_equal(made[1], first)
    assert np.array_equal(made[3], noisy)


def test_frames_are_passed_on_in_order_and_the_source_is_closed() -> None:
    closed = []

    def source():
        try:
            yield from shot("mixed", 5)
        finally:
            closed.append(True)

    marks = marked(source(), lambda frame: frame)
    next(marks)
    marks.close()
    assert closed == [True]
    passed = [frame for frame, _ in marked(iter(shot("mixed", 5)), lambda frame: frame)]
    assert all(np.array_equal(a, b) for a, b in zip(passed, shot("mixed", 5), strict=True))
    assert not any(np.array_equal(a, b) for a, b in pairwise(passed))
