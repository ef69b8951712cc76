from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.video.frame_stream import Frame
from wan_duet.pipelines.video.more_frames import interpolated, interpolated_images


class Ramp:
    """New frames are grey of level a + t (b - a), so that a clip of rising levels shows its own times."""

    def between(self, a: Frame, b: Frame, times: Sequence[float]) -> list[Frame]:
        first, last = int(a[0, 0, 0]), int(b[0, 0, 0])
        return [np.full_like(a, round(first + t * (last - first))) for t in times]


def clip(count: int, step: int = 12) -> Iterator[Frame]:
    """One shot: the left half brightens, the right half stays white."""
    frames = [np.full((2, 4, 3), 255, np.uint8) for _ in range(count)]
    for number, frame in enumerate(frames):
        frame[:, :2] = number * step
    return iter(frames)


def levels(frames: Iterator[Frame]) -> list[int]:
    return [int(frame[0, 0, 0]) for frame in frames]


@given(n=st.integers(0, 20), k=st.integers(0, 4))
def test_n_frames_become_n_plus_k_for_every_pair(n: int, k: int) -> None:
    assert len(levels(interpolated(clip(n), Ramp(), k))) == n + max(n - 1, 0) * k


@pytest.mark.parametrize("k", [1, 2, 3])
def test_new_frames_are_evenly_spaced_in_time(k: int) -> None:
    assert levels(interpolated(clip(4), Ramp(), k)) == list(range(0, 37, 12 // (k + 1)))


def test_source_frames_pass_through_untouched() -> None:
    source = list(clip(4))
    result = list(interpolated(iter(source), Ramp(), 2))
    assert all(result[3 * i] is frame for i, frame in enumerate(source))


def test_reverse_then_interpolate_is_interpolate_then_reverse() -> None:
    forward = levels(interpolated(clip(5), Ramp(), 3))
    backward = levels(interpolated(iter(list(clip(5))[::-1]), Ramp(), 3))
    assert backward == forward[::-1]


def test_the_source_is_read_as_far_ahead_as_a_flash_is_looked_for() -> None:
    read = []

    def counted() -> Iterator[Frame]:
        for frame in clip(9):
            read.append(1)
            yield frame

    stream = interpolated(counted(), Ramp(), 1)
    for taken in range(1, 10):
        next(stream)
        assert len(read) <= 3 + taken // 2


def test_closing_the_stream_closes_its_source() -> None:
    source = (frame for frame in clip(3))
    stream = interpolated(source, Ramp(), 1)
    next(stream)
    stream.close()
    assert list(source) == []


def test_a_negative_number_of_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="0 or more"):
        interpolated(clip(2), Ramp(), -1)


@pytest.mark.parametrize(("n", "k"), [(0, 2), (1, 2), (2, 0), (3, 2)])
@pytest.mark.parametrize("alpha", [1.0, 0.4])
def test_images_keep_every_digit_and_new_ones_lie_between(n: int, k: int, alpha: float) -> None:
    images = torch.ones(n, 2, 4, 4)
    images[:, :, :2, :3] = torch.linspace(0.1, 0.4, 3)[:n].view(-1, 1, 1, 1)
    images[..., 3] = alpha
    result = interpolated_images(images, Ramp(), k, Silent())
    assert result.shape == (n + max(n - 1, 0) * k, 2, 4, 3)
    assert torch.equal(result[:: k + 1], images[..., :3] * alpha + (1 - images[..., 3:]))
    shades = result[:, 0, 0, 0]
    assert torch.equal(shades, shades.unique())


def test_a_stop_reaches_the_clip_between_two_frames() -> None:
    class Stopped(Silent):
        def check(self) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interpolated_images(torch.zeros(2, 2, 4, 3), Ramp(), 1, Stopped())
