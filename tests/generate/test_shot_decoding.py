"""A shot that goes on is decoded as one video with the shot before it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from smaller import smaller
from torch import Tensor

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.generate.frame_stages import decode
from wan_duet.pipelines.generate.prepared_run import Run
from wan_duet.pipelines.generate.shot_decoding import decode_shot, ending_of
from wan_duet.pipelines.loading.wan_model import load_model
from wan_duet.pipelines.progress import Silent

MODEL = smaller(load_model("toy"))
MEMORY = DeviceMemory("cpu")


def run_of(frames: int) -> Run:
    """Return what decoding reads of a run that shows so many frames."""
    plan = SimpleNamespace(frames_delivered=frames)
    return cast(Run, SimpleNamespace(plan=plan, model=MODEL, memory=MEMORY, progress=Silent()))


def latents(frames: int, seed: int) -> Tensor:
    return torch.randn(1, 16, frames, 8, 8, generator=torch.Generator().manual_seed(seed))


def whole(tensor: Tensor) -> list[Tensor]:
    return list(decode(MODEL, tensor, MEMORY, Silent()))


@pytest.mark.parametrize("given", [1, 5])
def test_frames_after_those_given_are_decoded_with_the_shot_before(given: int) -> None:
    before, mine = latents(3, 1), latents(4, 2)
    shown = list(decode_shot(run_of(13), mine, ending_of(run_of(9), before), given))
    own, together = whole(mine), whole(torch.cat([before, mine[:, :, (given + 3) // 4 :]], 2))
    wanted = [*own[:given], *together[9:]]
    assert len(shown) == 13
    assert all(torch.equal(frame, its) for frame, its in zip(shown, wanted, strict=True))
    assert not torch.equal(shown[given], own[given])


def test_four_latent_frames_of_the_shot_before_are_decoded_again() -> None:
    before, mine = latents(6, 1), latents(2, 2)
    ending = ending_of(run_of(21), before)
    assert ending is not None
    assert torch.equal(ending, before[:, :, 2:])
    shown = list(decode_shot(run_of(5), mine, ending, 1))
    assert torch.equal(shown[-1], whole(torch.cat([before[:, :, 2:], mine[:, :, 1:]], 2))[-1])


def test_a_shot_that_ends_within_a_latent_frame_is_no_past() -> None:
    assert ending_of(run_of(8), latents(3, 1)) is None


@pytest.mark.parametrize("before", [None, torch.zeros(1, 16, 3, 4, 4), torch.zeros(1, 48, 3, 8, 8)])
def test_a_shot_without_a_past_of_its_shape_is_decoded_alone(before: Any) -> None:
    mine = latents(2, 3)
    shown = list(decode_shot(run_of(4), mine, before, 1))
    assert all(torch.equal(frame, its) for frame, its in zip(shown, whole(mine)[:4], strict=True))


def test_a_shot_that_is_not_read_to_its_end_lets_go_of_the_vae() -> None:
    stream = decode_shot(run_of(13), latents(4, 2), latents(3, 1), 1)
    next(stream), next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert len(whole(latents(1, 1))) == 1
