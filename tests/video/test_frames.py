from __future__ import annotations

import numpy as np
import pytest
import torch

from wan_duet.pipelines.errors import MediaError
from wan_duet.pipelines.video.frames import image_frames, to_uint8, video_frames

ALL_LEVELS = torch.arange(256).repeat(3, 1, 1)  # (3, 1, 256)


@pytest.mark.parametrize("low", [-1.0, 0.0])
def test_every_level_survives_the_way_through_floats(low: float) -> None:
    floats = ALL_LEVELS / 255 * (1 - low) + low
    assert np.array_equal(to_uint8(floats, low=low)[0, :, 0], np.arange(256))


def test_levels_are_rounded_not_truncated() -> None:
    assert to_uint8(torch.full((3, 1, 1), 99.6 / 255), low=0.0)[0, 0, 0] == 100


def test_values_outside_the_range_are_clipped() -> None:
    frame = torch.tensor([-7.0, 0.0, 7.0]).view(3, 1, 1)
    assert to_uint8(frame).tolist() == [[[0, 128, 255]]]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_frame_with_one_bad_value_is_refused(bad: float) -> None:
    frame = torch.zeros(3, 8, 8)
    frame[1, 2, 3] = bad
    with pytest.raises(MediaError, match="NaN or Inf"):
        to_uint8(frame)


def test_an_image_batch_becomes_the_same_frames_with_white_behind_alpha() -> None:
    images = torch.rand(3, 4, 6, 4)
    images[..., 3] = torch.tensor([1.0, 0.0] * 3)
    frames = np.stack(list(image_frames(images)))
    assert np.array_equal(frames[:, :, ::2], (images[:, :, ::2, :3] * 255).round().byte().numpy())
    assert (frames[:, :, 1::2] == 255).all()
    assert np.array_equal(
        np.stack(list(image_frames(images[..., :3]))), (images[..., :3] * 255).round().byte()
    )


def test_decoder_output_is_converted_frame_by_frame() -> None:
    decoded = iter([torch.full((3, 2, 4), -1.0), torch.full((3, 2, 4), 1.0)])
    stream = video_frames(decoded)
    assert next(stream).max() == 0
    assert next(stream).min() == 255
