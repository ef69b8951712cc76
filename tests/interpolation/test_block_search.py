from __future__ import annotations

import pytest
import torch

from wan_duet.pipelines.interpolation.block_search import search


@pytest.mark.parametrize("move", [(6, -3), (-8, 8), (0, 5)])
def test_a_small_thing_that_moves_far_before_a_still_ground_is_found(move: tuple[int, int]) -> None:
    right, down = move
    random = torch.Generator().manual_seed(0)
    ground = 0.4 * torch.rand(1, 1, 36, 48, generator=random)
    thing = 0.5 + 0.4 * torch.rand(1, 1, 8, 8, generator=random)
    here, there = ground.clone(), ground.clone()
    here[..., 14:22, 20:28] = thing
    there[..., 14 + down : 22 + down, 20 + right : 28 + right] = thing
    found = search(here, there)
    inside = found[0, :, 15:21, 21:27].flatten(1)
    assert inside.tolist() == [[right] * 36, [down] * 36]
    assert not found[..., :5, :].any()


def test_a_plain_picture_does_not_move() -> None:
    plain = torch.full((2, 3, 20, 30), 0.3)
    assert not search(plain, plain).any()


def test_both_directions_are_searched_at_once() -> None:
    picture = torch.rand(1, 1, 30, 40, generator=torch.Generator().manual_seed(1))
    moved = picture.roll((2, 4), (2, 3))
    pair = torch.cat((picture, moved))
    there, back = search(pair, pair.flip(0))[:, :, 12:18, 12:28]
    assert (there == torch.tensor([4.0, 2.0]).view(2, 1, 1)).all()
    assert torch.equal(back, -there)
