from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from wan_duet.pipelines.interpolation.network_interpolator import NetworkInterpolator
from wan_duet.pipelines.video.frame_stream import Frame

CPU = torch.device("cpu")


class Blend:
    """The smallest network there can be: it mixes the frames by time, and remembers what it looked at."""

    alignment = 8

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def prepare(self, picture: Tensor) -> Tensor:
        self.seen.append(picture)
        return picture

    def interpolate(self, before: Tensor, after: Tensor, times: Sequence[float]) -> Iterator[Tensor]:
        return (before * (1 - t) + after * t for t in times)


def clip(count: int, height: int = 5, width: int = 11) -> list[Frame]:
    random = np.random.default_rng(3)
    return [random.integers(0, 256, (height, width, 3), np.uint8) for _ in range(count)]


def test_frames_come_back_in_their_size_and_at_their_times() -> None:
    a, b = clip(2)
    drawn = NetworkInterpolator(Blend(), CPU).between(a, b, [0.25, 0.5])
    for frame, t in zip(drawn, (0.25, 0.5), strict=True):
        assert np.abs(frame - (a * (1 - t) + b * t)).max() <= 0.5 + 1e-3


def test_the_network_sees_whole_multiples_and_the_border_goes_on() -> None:
    net = Blend()
    a, b = clip(2)
    NetworkInterpolator(net, CPU).between(a, b, [0.5])
    first = net.seen[0]
    assert first.shape == (1, 3, 8, 16)
    assert torch.equal(first[..., 4:, :], first[..., 4:5, :].expand(-1, -1, 4, -1))
    assert torch.equal(first[..., 10:], first[..., 10:11].expand(-1, -1, -1, 6))


def test_every_frame_of_a_clip_is_looked_at_once() -> None:
    net = Blend()
    interpolator, frames = NetworkInterpolator(net, CPU), clip(4)
    for a, b in pairwise(frames):
        interpolator.between(a, b, [0.5])
    assert len(net.seen) == 4


def test_another_clip_is_not_mistaken_for_the_next_pair() -> None:
    interpolator = NetworkInterpolator(Blend(), CPU)
    a, b, c, d = clip(4)
    interpolator.between(a, b, [0.5])
    again = interpolator.between(c, d, [0.5])
    assert np.array_equal(again[0], NetworkInterpolator(Blend(), CPU).between(c, d, [0.5])[0])


@pytest.mark.filterwarnings("error")
def test_read_only_frames_are_taken() -> None:
    still = np.frombuffer(bytes(range(192)), np.uint8).reshape(8, 8, 3)
    assert np.array_equal(NetworkInterpolator(Blend(), CPU).between(still, still, [0.5])[0], still)
