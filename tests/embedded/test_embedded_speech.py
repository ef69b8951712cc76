"""The embedded speech model moves the mouth of the face in the picture with the loudness of the sound.

The bars stand below what bench/embedded_speech.py measured by what one clip can scatter.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from face_detector import see_face
from speech_drawing import FPS, follows, jump, spoken

from tools.train_embedded.faces import Face, random_face, render_face
from tools.train_embedded.sounds import RATE, mouth_openings, speech_like
from wan_duet.pipelines.embedded.toy_model import TOY_SPEECH
from wan_duet.pipelines.loading.wan_model import load_model

SECONDS = 2.5  # two clips


def test_the_detector_reads_drawn_faces() -> None:
    rng = np.random.default_rng(5)
    right = 0
    for _ in range(100):
        face, openings = random_face(rng), rng.uniform(0, 1, 5).astype(np.float32)
        openings[:2] = 0, 1
        seen = see_face(render_face(face, openings))
        right += (seen.colour, seen.background, seen.eyes) == (face.colour, face.background, 1.0)
        assert np.corrcoef(seen.openings, openings)[0, 1] > 0.99
        assert np.abs([seen.x - face.x, seen.y - face.y]).max() < 1.5  # pixels
    assert right >= 99


def test_a_picture_without_a_face_is_refused() -> None:
    with pytest.raises(ValueError, match="no face"):
        see_face(np.full((2, 64, 64, 3), 128, np.uint8))


def test_voices_differ_and_say_the_same() -> None:
    sounds = [speech_like(4, np.random.default_rng(1), np.random.default_rng(voice)) for voice in (2, 3)]
    openings = [mouth_openings(sound, FPS, 4 * FPS) for sound in sounds]
    assert np.abs(np.corrcoef(*sounds)[0, 1]) < 0.5
    assert np.corrcoef(*openings)[0, 1] > 0.95
    assert all(0 <= each.min() < 0.05 and 0.7 < each.max() <= 1 for each in openings)
    assert not mouth_openings(np.zeros(RATE, np.float32), FPS, FPS).any()


@pytest.fixture(scope="module")
def face() -> Face:
    return Face("green", "white", 31.0, 33.0, 23.0)


@pytest.fixture(scope="module")
def sound() -> npt.NDArray[np.float32]:
    return speech_like(SECONDS, np.random.default_rng(77))


@pytest.fixture(scope="module")
def frames(
    face: Face, sound: npt.NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory
) -> npt.NDArray[np.uint8]:
    return spoken(load_model(TOY_SPEECH), face, sound, tmp_path_factory.mktemp("spoken"))


def test_the_mouth_follows_the_sound(frames: npt.NDArray[np.uint8], sound: npt.NDArray[np.float32]) -> None:
    seen = follows(frames, sound)
    assert seen["correlation"] > 0.65  # another sound's loudness gives less, as the next line shows
    assert follows(frames, sound[::-1])["correlation"] < 0.5
    assert abs(seen["lag"]) <= 1


def test_the_face_stays_as_in_the_picture(frames: npt.NDArray[np.uint8], face: Face) -> None:
    seen = see_face(frames)
    assert len(frames) == SECONDS * FPS
    assert (seen.colour, seen.background) == (face.colour, face.background)
    assert seen.eyes > 0.9
    assert np.abs(seen.x - face.x).max() < 3  # pixels
    assert np.abs(seen.y - face.y).max() < 3
    assert jump(frames, 20) < 1.5
