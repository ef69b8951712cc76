"""A shot that goes on is decoded as one video with the shot before it."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from smaller import smaller
from torch import Tensor

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.generate.frame_stages import decode
from wan_duet.pipelines.generate.prepared_run import Run
from wan_duet.pipelines.generate.shot_decoding import decode_shot, ending_of
from wan_duet.pipelines.loading.host_model import HostModel
from wan_duet.pipelines.loading.wan_model import load_model
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request.joins import Join
from wan_duet.pipelines.video.colour_drift import Drift
from wan_duet.pipelines.video.frame_stream import Frame, FrameStream
from wan_duet.pipelines.video.frames import video_frames
from wan_duet.pipelines.video.joined import joined

MODEL = smaller(load_model("toy"))
MEMORY = DeviceMemory("cpu")


class WholeVae:
    """A host whose VAE decodes a clip at once: that of the toy. sizes: latent frames of each clip."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def decode_whole(self, tensor: Tensor) -> Tensor:
        self.sizes.append(tensor.shape[2])
        return torch.stack([(frame.movedim(0, -1) + 1) / 2 for frame in whole(tensor)])


def run_of(frames: int, model: object = MODEL) -> Run:
    """Return what decoding reads of a run that shows so many frames."""
    plan = SimpleNamespace(frames_delivered=frames)
    return cast(Run, SimpleNamespace(plan=plan, model=model, memory=MEMORY, progress=Silent()))


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


@pytest.mark.parametrize(
    ("earlier", "join", "levels"),
    [
        (3, Join("continue"), 0),
        (3, Join("overlap", 5), 0),
        (4, Join("overlap", 9), 0),
        (7, Join("continue"), 5),  # four of the seven are decoded again
        (7, Join("overlap", 5), 5),
    ],
)
def test_shots_of_a_vae_that_decodes_whole_clips_are_as_both_decoded_at_once(
    earlier: int, join: Join, levels: int
) -> None:
    networks = WholeVae()
    model = HostModel("WAN21", MODEL.family, None, cast(Any, networks), whole_vae="Toy")
    before, mine = latents(earlier, 1), latents(5, 2)
    runs = run_of(4 * earlier - 3, model), run_of(17, model)

    def shot(number: int, given: Sequence[Frame]) -> FrameStream:
        assert len(given) == number * join.given
        ending = ending_of(runs[0], before) if number else None
        return video_frames(decode_shot(runs[number], (before, mine)[number], ending, join.given))

    shown = np.stack(list(joined([Join("cut"), join], shot, Drift())))
    start = (join.given + 3) // 4  # the latent frames of those that both shots show
    at_once = networks.decode_whole(torch.cat([before, mine[:, :, start:]], 2)) * 2 - 1
    wanted = np.stack(list(video_frames(frame.movedim(-1, 0) for frame in at_once)))
    assert shown.shape == wanted.shape
    difference = np.abs(shown.astype(int) - wanted)
    assert difference.max() <= levels  # of 255
    assert difference.mean((1, 2, 3)).max() <= levels / 8
    assert networks.sizes[:-1] == [earlier, start, min(earlier, 4) + 5 - start]
