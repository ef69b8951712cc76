"""Frames of shots become those of one video."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from wan_duet.pipelines.request.joins import Join
from wan_duet.pipelines.video.colour_drift import Drift
from wan_duet.pipelines.video.frame_stream import Frame, FrameStream
from wan_duet.pipelines.video.joined import joined

CUT, CONTINUE = Join("cut"), Join("continue")


def grey(level: int) -> Frame:
    return np.full((2, 2, 3), level, np.uint8)


def levels(frames: Iterator[Frame]) -> list[int]:
    return [int(frame[0, 0, 0]) for frame in frames]


def of(*shots: list[int]) -> Callable[[int, Sequence[Frame]], FrameStream]:
    return lambda number, _: iter(map(grey, shots[number]))


def test_a_cut_shows_every_frame() -> None:
    assert levels(joined([CUT, CUT], of([1, 2], [3, 4]), Drift())) == [1, 2, 3, 4]


def test_the_frame_that_a_shot_continues_from_is_shown_once() -> None:
    given: list[list[int]] = []

    def shot(number: int, before: Sequence[Frame]) -> FrameStream:
        given.append(levels(iter(before)))
        return iter(map(grey, [[1, 2], [2, 3], [3, 4]][number]))

    assert levels(joined([CUT, CONTINUE, CONTINUE], shot, Drift())) == [1, 2, 3, 4]
    assert given == [[], [2], [3]]


def test_a_shot_that_overlaps_is_given_the_frames_that_are_not_shown_again() -> None:
    given: list[list[int]] = []

    def shot(number: int, before: Sequence[Frame]) -> FrameStream:
        given.append(levels(iter(before)))
        return iter(map(grey, [[1, 2, 3, 4, 5, 6], [2, 3, 4, 5, 6, 7, 8]][number]))

    assert levels(joined([CUT, Join("overlap", 5)], shot, Drift())) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert given == [[], [2, 3, 4, 5, 6]]


def test_a_dissolve_mixes_by_equal_steps() -> None:
    made = levels(joined([CUT, Join("dissolve", 3)], of([0] * 5, [100] * 5), Drift()))
    assert made == [0, 0, 25, 50, 75, 100, 100]


def test_a_dissolve_after_a_continued_shot_mixes_what_was_shown() -> None:
    made = levels(joined([CUT, CONTINUE, Join("dissolve", 1)], of([0, 0], [0, 40, 40], [80, 80]), Drift()))
    assert made == [0, 0, 40, 60, 80]


def test_no_more_frames_are_held_than_are_mixed() -> None:
    alive: list[int] = []

    def shot(number: int, _: Sequence[Frame]) -> FrameStream:
        for index in range(50):
            alive.append(number * 50 + index)
            yield grey(index)

    stream = joined([CUT, Join("dissolve", 4)], shot, Drift())
    for shown, _ in enumerate(stream):
        assert len(alive) - shown <= 4 + 4 + 1  # held, mixed away, and the one that was shown


def test_a_shot_begins_when_the_one_before_is_shown() -> None:
    begun: list[int] = []

    def shot(number: int, _: Sequence[Frame]) -> FrameStream:
        begun.append(number)
        return iter([grey(1), grey(2)])

    stream = joined([CUT, CONTINUE], shot, Drift())
    next(stream)
    next(stream)
    assert begun == [0]
    next(stream)
    assert begun == [0, 1]


def test_the_shot_is_closed_when_nobody_reads_on() -> None:
    closed: list[bool] = []

    def shot(number: int, _: Sequence[Frame]) -> FrameStream:
        try:
            yield grey(number)
            yield grey(number)
        finally:
            closed.append(True)

    stream = joined([CUT], shot, Drift())
    next(stream)
    stream.close()
    assert closed == [True]
