"""Colours are within rounding of a float64 reference, each where it belongs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from av.filter import Graph
from av.video.reformatter import ColorRange

from wan_duet.pipelines.video import pixel_layout
from wan_duet.pipelines.video.frame_pixels import Look, flat
from wan_duet.pipelines.video.muxed_file import converted
from wan_duet.pipelines.video.pixel_layout import AVERAGED, forget_graphs, in_layout
from wan_duet.pipelines.video.read import read_frames
from wan_duet.pipelines.video.video_format import FormatWish, format_of

from .clips import write

Planes = tuple[npt.NDArray[np.float64], ...]
# Kr and Kb of ITU-T H.273 table 4, by code.
WEIGHTS = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
LIMITED, FULL = 1, 2


def from_rgb(rgb: npt.ArrayLike, matrix: int, colour_range: int, bits: int = 8) -> Planes:
    """Y, Cb, Cr of RGB from 0 to 255, by ITU-T H.273 equations 38 to 43 and 20 to 28, not rounded."""
    (kr, kb), one = WEIGHTS[matrix], 2 ** (bits - 8)
    red, green, blue = np.moveaxis(np.asarray(rgb, np.float64) / 255, -1, 0)
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    parts = luma, (blue - luma) / (2 - 2 * kb), (red - luma) / (2 - 2 * kr)
    if colour_range == FULL:
        top = 256 * one - 1
        return parts[0] * top, parts[1] * top + 128 * one, parts[2] * top + 128 * one
    return (
        (parts[0] * 219 + 16) * one,
        (parts[1] * 224 + 128) * one,
        (parts[2] * 224 + 128) * one,
    )


def to_rgb(planes: Planes, matrix: int) -> npt.NDArray[np.float64]:
    """RGB from 0 to 255 of 8-bit limited Y, Cb, Cr."""
    kr, kb = WEIGHTS[matrix]
    luma = (planes[0] - 16) / 219
    blue, red = (
        luma + (2 - 2 * k) * (part - 128) / 224 for k, part in zip((kb, kr), planes[1:], strict=True)
    )
    green = (luma - kr * red - kb * blue) / (1 - kr - kb)
    return np.clip(np.stack([red, green, blue], -1) * 255, 0, 255)


def framed(
    planes: list[npt.NDArray[np.uint16]], layout: str, matrix: int, colour_range: int
) -> av.VideoFrame:
    frame = av.VideoFrame(planes[0].shape[1], planes[0].shape[0], layout)
    for plane, values in zip(frame.planes, planes, strict=True):
        stored = values.astype("<u2" if "10" in layout else np.uint8).view(np.uint8)
        rows = np.zeros((plane.height, plane.line_size), np.uint8)
        rows[:, : stored.shape[1]] = stored
        plane.update(rows.tobytes())
    frame.colorspace, frame.color_range = matrix, colour_range
    return frame


@pytest.mark.parametrize("layout", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le"])
@pytest.mark.parametrize("matrix", list(WEIGHTS))
@pytest.mark.parametrize("colour_range", [LIMITED, FULL])
def test_a_flat_colour_is_read_within_two_levels(layout: str, matrix: int, colour_range: int) -> None:
    bits = 10 if "10" in layout else 8
    for height, width in ((48, 64), (33, 47), (33, 64)):
        down = -(-height // 2) if "420" in layout else height
        across = width if "444" in layout else -(-width // 2)
        for colour in np.random.default_rng(1).integers(0, 256, (8, 3)):
            values = [round(float(part)) for part in from_rgb(colour, matrix, colour_range, bits)]
            shapes = [(height, width), (down, across), (down, across)]
            planes = [np.full(shape, value, np.uint16) for shape, value in zip(shapes, values, strict=True)]
            frame = framed(planes, layout, matrix, colour_range)
            # The stored numbers are rounded: up to a level of Cb is two of blue.
            assert np.abs(flat(frame, Look()).astype(float) - colour).max() <= 2


def ramp(width: int) -> npt.NDArray[np.float64]:
    """Cb at each pixel of a row."""
    return 60 + 2.0 * np.arange(width)


def test_colours_that_pixels_share_are_read_where_they_belong() -> None:
    """Cb rises along a row, and stands for the left of two pixels."""
    planes = [np.full((32, 64), 128), np.tile(ramp(64)[::2], (16, 1)), np.full((16, 32), 128)]
    frame = framed([plane.astype(np.uint16) for plane in planes], "yuv420p", 1, LIMITED)
    found = flat(frame, Look()).astype(float)
    wanted = to_rgb((np.full((32, 64), 128.0), np.tile(ramp(64), (32, 1)), np.full((32, 64), 128.0)), 1)
    assert np.abs(found - wanted)[:, :-1].max() <= 1  # nothing is known right of the last Cb


def averaged(part: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The mean of two rows; 1, 2, 1 quarters of three pixels around the left one of two."""
    wide = np.pad(part, ((0, 0), (1, 1)), mode="edge")
    smooth = (wide[:, :-2] + 2 * wide[:, 1:-1] + wide[:, 2:]) / 4
    return (smooth[::2, ::2] + smooth[1::2, ::2]) / 2


def test_colours_are_written_as_the_mean_around_their_place() -> None:
    picture = np.random.default_rng(2).integers(0, 256, (32, 64, 3), np.uint8)
    frame = converted(picture, format_of(Path("a.mp4")))
    luma, *colours = from_rgb(picture, 1, LIMITED)
    for plane, wanted in zip(frame.planes, (luma, *map(averaged, colours)), strict=True):
        stored = np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, -1)[:, : plane.width]
        assert np.abs(stored - wanted)[:, 1:].max() <= 0.75  # beside the first column nothing is known


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "h264"), ("a.mp4", "h265"), ("a.mp4", "av1"), ("a.webm", "vp9"), ("a.mov", "prores")],
)
def test_a_colour_edge_does_not_move_from_file_to_file(tmp_path: Path, name: str, codec: str) -> None:
    """Written and read four times, a soft edge between two colours of equal luma stays where it was."""
    share = np.clip((np.arange(128) - 48) / 32, 0, 1)[:, None]
    picture = np.tile((share * [70, 140, 60] + (1 - share) * [180, 90, 150]).round(), (64, 1, 1))
    frame = picture.astype(np.uint8)
    for _ in range(4):
        write(
            tmp_path / name,
            frames=iter([frame] * 5),
            width=128,
            quality="maximum",
            wish=FormatWish(codec=codec),
        )
        frame = next(read_frames(tmp_path / name))
    # Red falls by 110 in 32 pixels: half a pixel each time would be 7.
    middle = (frame.astype(float) - picture)[:, 60:68, 0]
    assert abs(middle.mean()) <= 1.5


def test_frames_that_are_alike_share_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Graph] = []

    def counted() -> Graph:
        made.append(Graph())
        return made[-1]

    forget_graphs()
    monkeypatch.setattr(pixel_layout, "Graph", counted)
    noise = np.random.default_rng(0).integers(0, 256, (6, 16, 32, 3), np.uint8)

    def converted(pictures: npt.NDArray[np.uint8], **changed: Any) -> list[npt.NDArray[np.uint8]]:
        frames = [av.VideoFrame.from_ndarray(picture, format="rgb24") for picture in pictures]
        for frame in frames:
            for name, value in changed.items():
                setattr(frame, name, value)
        return [in_layout(frame, "yuv420p", {"flags": AVERAGED}).to_ndarray() for frame in frames]

    together = converted(noise)
    assert len(made) == 1
    converted(noise[:1], color_range=ColorRange.JPEG)
    converted(noise[:, :8])
    assert len(made) == 3
    alone = []
    for picture in noise:
        forget_graphs()
        alone += converted(picture[None])
    assert all(np.array_equal(*pair) for pair in zip(together, alone, strict=True))
    assert len(made) == 3 + len(noise)


def test_a_thread_keeps_few_graphs() -> None:
    for height in range(16, 16 + 4 * 10, 4):
        frame = av.VideoFrame.from_ndarray(np.zeros((height, 16, 3), np.uint8), format="rgb24")
        in_layout(frame, "yuv420p", {"flags": AVERAGED})
    assert len(pixel_layout._graphs.kept) == 4
