from __future__ import annotations

from pathlib import Path

import frame_nets
import pytest
import torch
from safetensors.torch import load_file

from wan_duet.pipelines.interpolation.rife import rife_keys
from wan_duet.pipelines.interpolation.rife_3 import Rife3Layout, Rife3Net

REFERENCE = Path(frame_nets.__file__).with_name("frame_nets.safetensors")


def network(width: int = 90) -> Rife3Net:
    tensors = frame_nets.weights(frame_nets.rife_3_shapes(width))
    names = rife_keys([*tensors])
    net = Rife3Net(Rife3Layout(width))
    net.load_state_dict({names[key]: tensor for key, tensor in tensors.items()})
    return net.eval().requires_grad_(False)


def test_the_middle_is_what_the_reference_draws() -> None:
    (picture,) = network().interpolate(*frame_nets.pictures(*frame_nets.RIFE_3_SIZE), [0.5])
    expected = load_file(REFERENCE)["rife 3.9"]
    torch.testing.assert_close(frame_nets.sampled(picture), expected, rtol=0, atol=1e-5)


def test_swapped_frames_give_the_same_middle() -> None:
    net, (a, b) = network(8), frame_nets.pictures(32, 64)
    torch.testing.assert_close(net(a, b), net(b, a), rtol=0, atol=1e-5)


def test_quarters_are_middles_of_middles() -> None:
    net, (a, b) = network(8), frame_nets.pictures(32, 32)
    middle = net(a, b)
    wanted = [net(a, middle), middle, net(middle, b)]
    for picture, expected in zip(net.interpolate(a, b, [0.25, 0.5, 0.75]), wanted, strict=True):
        assert torch.equal(picture, expected)


class Clock(Rife3Net):
    """A network whose frames hold their time, so that the middle of two is the mean of both."""

    def __init__(self) -> None:
        super().__init__(Rife3Layout(8))

    def forward(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        return (before + after) / 2


@pytest.mark.parametrize(
    "times", [[0.3], [1 / 3, 2 / 3], [0.01, 0.49, 0.5, 0.51, 0.99], [k / 7 for k in range(1, 7)]]
)
def test_every_time_is_met_within_a_fiftieth_of_the_gap(times: list[float]) -> None:
    met = [float(time) for time in Clock().interpolate(torch.zeros(()), torch.ones(()), times)]
    assert met == pytest.approx(times, abs=0.02)
    assert met == sorted(met)
