"""RIFLEx lowers one frequency of the positions in time, against its formula in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_transformer import SHAPE, own, relative_l2, stock
from torch import Tensor

from wan_duet.pipelines.errors import ModelError
from wan_duet.pipelines.networks.expert import EXPERT, expert_kind
from wan_duet.pipelines.networks.transformer import OwnRotary
from wan_duet.pipelines.plan.riflex import Riflex
from wan_duet.pipelines.sampling.engine import Condition

FRAMES, ROWS, COLUMNS = 9, 3, 5  # of tokens
HEAD = 32  # numbers of a head, 12 of them for time
CLIP = torch.zeros(1, 16, FRAMES, 2 * ROWS, 2 * COLUMNS)


def papers_angles(k: int, length: int) -> np.ndarray:
    """Angles (tokens, 16) in float64: rotary positions of Wan, and equation 8 of arxiv.org/abs/2502.15894."""
    in_space = 2 * (HEAD // 6)
    in_time = HEAD - 2 * in_space
    of_time = 10000.0 ** (-np.arange(0, in_time, 2) / in_time)
    of_space = 10000.0 ** (-np.arange(0, in_space, 2) / in_space)
    if k:
        of_time[k - 1] = 0.9 * 2 * np.pi / length
    frame, row, column = (
        axis.reshape(-1, 1) for axis in np.mgrid[:FRAMES, :ROWS, :COLUMNS].astype(np.float64)
    )
    return np.concatenate([frame * of_time, row * of_space, column * of_space], axis=1)


@pytest.fixture(scope="module")
def rotary() -> OwnRotary:
    rope: OwnRotary = own(stock()).rope
    return rope


@pytest.mark.parametrize(("k", "length"), [(1, 9), (4, 30), (6, 41)])
def test_the_table_is_the_papers_in_float64(rotary: OwnRotary, k: int, length: int) -> None:
    rope = rotary(CLIP, Riflex(k, length))
    wanted = papers_angles(k, length)
    assert np.abs(rope.cos.double().numpy() - np.cos(wanted)).max() < 1e-6
    assert np.abs(rope.sin.double().numpy() - np.sin(wanted)).max() < 1e-6


def test_only_the_column_of_k_differs_and_without_it_the_bits_are_those_of_before(rotary: OwnRotary) -> None:
    plain = rotary(CLIP)
    before: Tensor = plain.cos.clone()
    lowered = rotary(CLIP, Riflex(3, 40))
    differs = (lowered.cos != before).any(dim=0)
    assert differs.nonzero().flatten().tolist() == [2]
    assert torch.equal(rotary(CLIP).cos, before)  # the next run of the same network is not changed


def test_a_forward_uses_it_and_off_gives_the_same_bits() -> None:
    network, condition = own(stock()), Condition(torch.randn(1, 7, 16))
    latents = torch.randn(SHAPE)
    plain, on, off = (
        kind.velocity(network, latents, 500.0, condition, torch.float32)
        for kind in (EXPERT, expert_kind(Riflex(1, 60)), expert_kind(None))
    )
    assert torch.equal(plain, off)
    assert relative_l2(on, plain) > 1e-3


def test_a_frequency_that_the_network_does_not_have_is_refused(rotary: OwnRotary) -> None:
    with pytest.raises(ModelError, match="riflex: frequency 7, but this network has 6 in time; give 1 to 6"):
        rotary(CLIP, Riflex(7, 40))
