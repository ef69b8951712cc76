from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import pytest

from tools.train_embedded import grammar
from tools.train_embedded.clips import FRAMES, render
from wan_duet.pipelines.interpolation.optical_flow import FlowInterpolator, Motion, motion_on
from wan_duet.pipelines.video.frame_stream import Frame

from .scenes import blend, psnr, scene, ssim

FLOW = FlowInterpolator(motion="torch")
SIZE = (320, 176)
MOTIONS = [
    "torch",
    pytest.param(
        "opencv", marks=pytest.mark.skipif(find_spec("cv2") is None, reason="OpenCV is not installed")
    ),
]


@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize("t", [0.5, 0.8])
@pytest.mark.parametrize(
    ("name", "gain"),
    [("translation", 16), ("rotation", 13), ("zoom", 10), ("fast pan", 18), ("occlusion", 7), ("mixed", 7)],
)
def test_a_moving_scene_is_nearer_to_the_truth_than_a_blend_by_decibels(
    name: str, gain: float, t: float, motion: Motion
) -> None:
    film = scene(name, *SIZE)
    a, b, truth = film.frame(0), film.frame(1), film.frame(t)
    (made,) = FlowInterpolator(motion=motion).between(a, b, [t])
    assert psnr(made, truth) >= psnr(blend(a, b, t), truth) + gain


@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize(
    ("name", "decibels", "similarity"),
    [  # what OpenCV's flow and a blend of both directions reached on scenes of these kinds
        ("translation", 37.1, 0.990),
        ("rotation", 38.8, 0.992),
        ("zoom", 39.3, 0.994),
        ("occlusion", 33.9, 0.981),
        ("fast pan", 41.2, 0.995),
        ("mixed", 34.4, 0.983),
    ],
)
def test_a_moving_scene_is_drawn_well(name: str, decibels: float, similarity: float, motion: Motion) -> None:
    film = scene(name, *SIZE)
    truth = film.frame(0.5)
    (made,) = FlowInterpolator(motion=motion).between(film.frame(0), film.frame(1), [0.5])
    assert psnr(made, truth) >= decibels
    assert ssim(made, truth) >= similarity


@pytest.mark.parametrize("motion", grammar.MOTIONS)
def test_clips_of_the_embedded_model_are_drawn_no_worse_than_a_blend(motion: str) -> None:
    """Every second frame is taken out and drawn again.

    Where a shape grows by half a pixel per frame, a blend is nearly exact, and a single clip may be a third
    of a decibel worse; all clips of a motion together never are.
    """
    all_drawn, all_blended = [], []
    for shape in grammar.SHAPES:
        if (shape, motion) == ("ball", "spinning"):
            continue
        clip = render(grammar.Scene(shape, "red", motion, "navy"), 112, 64, FRAMES, seed=5)
        drawn, blended = [], []
        for a, truth, b in zip(clip[0:-2:4], clip[1:-1:4], clip[2::4], strict=True):
            drawn.append(squared_error(FLOW.between(a, b, [0.5])[0], truth))
            blended.append(squared_error(blend(a, b, 0.5), truth))
        assert sum(drawn) <= sum(blended) * 10 ** (0.35 / 10)
        all_drawn += drawn
        all_blended += blended
    assert sum(all_drawn) <= sum(all_blended)


def squared_error(a: Frame, b: Frame) -> float:
    return float(np.mean((a.astype(np.float64) - b) ** 2))


@pytest.mark.parametrize(
    ("device", "installed", "motion"),
    [("cpu", True, "opencv"), ("cpu", False, "torch"), ("cuda", True, "torch"), ("mps", True, "torch")],
)
def test_opencv_finds_the_motion_on_a_cpu_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch, device: str, installed: bool, motion: Motion
) -> None:
    found = ModuleType("cv2")
    found.__spec__ = ModuleSpec("cv2", None)
    monkeypatch.setitem(sys.modules, "cv2", found if installed else None)
    assert motion_on(device) == motion


def test_opencv_is_for_frames_of_some_size() -> None:
    small = scene("mixed", 112, 64)
    a, b = small.frame(0), small.frame(1)
    by_itself = FlowInterpolator(motion="opencv").between(a, b, [0.5])[0]
    assert np.array_equal(by_itself, FLOW.between(a, b, [0.5])[0])


@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize("shape", [(176, 320), (64, 112), (17, 33), (1, 1)])
def test_a_still_picture_comes_out_as_it_went_in(shape: tuple[int, int], motion: Motion) -> None:
    still = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    for made in FlowInterpolator(motion=motion).between(still, still.copy(), [0.2, 0.5, 0.8]):
        assert np.array_equal(made, still)


@pytest.mark.filterwarnings("error")
def test_read_only_frames_are_taken() -> None:
    still = np.frombuffer(bytes(range(192)), np.uint8).reshape(8, 8, 3)
    assert np.array_equal(FLOW.between(still, still, [0.5])[0], still)


def test_plain_areas_stay_plain() -> None:
    dark, light = np.full((32, 48, 3), 100, np.uint8), np.full((32, 48, 3), 110, np.uint8)
    (middle,) = FLOW.between(dark, light, [0.5])
    assert np.array_equal(middle, np.full((32, 48, 3), 105, np.uint8))


def test_motion_runs_forward_in_even_steps() -> None:
    a, b = spot(20.0), spot(30.0)
    places = [centre(frame) for frame in FLOW.between(a, b, [0.2, 0.4, 0.6, 0.8])]
    assert places == pytest.approx([22.0, 24.0, 26.0, 28.0], abs=0.25)


def test_swapping_the_frames_mirrors_time() -> None:
    film = scene("mixed", 112, 64)
    a, b = film.frame(0), film.frame(1)
    (forward,), (backward,) = FLOW.between(a, b, [0.25]), FLOW.between(b, a, [0.75])
    assert np.abs(forward.astype(int) - backward).max() <= 1


def test_the_same_pair_gives_the_same_bits() -> None:
    film = scene("mixed", *SIZE)
    a, b = film.frame(0), film.frame(1)
    assert np.array_equal(FLOW.between(a, b, [0.3])[0], FLOW.between(a, b, [0.3])[0])


def spot(x: float) -> Frame:
    """A soft bright spot at column x on a dark ground, 64 x 48."""
    rows, columns = np.mgrid[:48, :64]
    light = 200 * np.exp(-((columns - x) ** 2 + (rows - 24) ** 2) / 50)
    return np.repeat(np.rint(light).astype(np.uint8)[..., None], 3, 2)


def centre(frame: Frame) -> float:
    light = frame[..., 0].astype(float).sum(0)
    return float((light * np.arange(light.size)).sum() / light.sum())
