"""Equal frames make equal files, and the file says which frames are in it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from wan_duet.pipelines.video.codecs import CODECS, QUALITIES, WRITE_MODES
from wan_duet.pipelines.video.frame_hash import FRAMES_SHA256, PENDING, FrameHash
from wan_duet.pipelines.video.probe import probe
from wan_duet.pipelines.video.tags import RECEIPT

from .clips import moving, write

# x264's macroblock tree made 4 different files in the first 100 encodes on one machine, 2700 equal ones on
# another. No number of encodes is known to show it, so its option is tested too.
ENCODES, PROCESSES = (300, 3) if "WAN_DUET_LONG" in os.environ else (20, 1)
AGAIN = """
import hashlib, sys
from fractions import Fraction
from pathlib import Path
import numpy as np
from wan_duet.pipelines.video.encode_video import encode_video

file, mode, encodes = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
y, x = np.mgrid[:64, :112]
discs = [(x - 10 - 4 * index) ** 2 + (y - 32) ** 2 < 200 for index in range(17)]
frames = [np.where(disc[..., None], (30, 60, 220), (200, 200, 190)).astype(np.uint8) for disc in discs]
for _ in range(encodes):
    encode_video(
        iter(frames), file, width=112, height=64, fps=Fraction(16), frame_count=17, write_mode=mode
    )
    print(hashlib.sha256(file.read_bytes()).hexdigest())
"""


@pytest.mark.parametrize("mode", WRITE_MODES)
def test_every_fresh_process_writes_the_same_file_every_time(tmp_path: Path, mode: str) -> None:
    command = [sys.executable, "-c", AGAIN, str(tmp_path / "clip.mp4"), mode, str(ENCODES)]
    hashes = []
    for _ in range(PROCESSES):
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        hashes += done.stdout.split()
    assert len(hashes) == ENCODES * PROCESSES
    assert len(set(hashes)) == 1


@pytest.mark.parametrize("mode", WRITE_MODES)
@pytest.mark.parametrize("quality", QUALITIES)
def test_no_mode_uses_what_makes_files_differ(quality: str, mode: str) -> None:
    """x264's macroblock tree does, but so rarely that 300 encodes may not show it."""
    assert CODECS["h264"].encoder_options(quality, mode)["x264-params"] == "mbtree=0"


def test_x264_got_the_option(tmp_path: Path) -> None:
    """It writes its options into the stream."""
    write(tmp_path / "clip.mp4")
    assert b" mbtree=0 " in (tmp_path / "clip.mp4").read_bytes()


def test_the_hash_is_that_of_size_and_pixels_in_order(tmp_path: Path) -> None:
    frame_hash, expected = FrameHash(), hashlib.sha256()
    write(tmp_path / "clip.mp4", frame_hash=frame_hash)
    for frame in moving(5):
        expected.update(b"(64, 112, 3)" + frame.tobytes())
    assert frame_hash.sha256 == expected.hexdigest()


def test_frames_that_lie_elsewhere_in_memory_have_the_same_hash() -> None:
    plain, strided = FrameHash(), FrameHash()
    frame = next(moving(1))
    plain.add(frame)
    strided.add(np.asfortranarray(frame))
    assert plain.sha256 == strided.sha256


def test_the_hash_takes_its_place_in_the_file(tmp_path: Path) -> None:
    prompt = f'a sign that says "{FRAMES_SHA256}": "{PENDING}"'
    frame_hash, receipt = FrameHash(), json.dumps({"prompt": prompt, FRAMES_SHA256: PENDING})
    told = write(tmp_path / "clip.mp4", tags={RECEIPT: receipt}, frame_hash=frame_hash)
    found = json.loads(probe(tmp_path / "clip.mp4").tags[RECEIPT])
    assert found == json.loads(told.tags[RECEIPT]) == {"prompt": prompt, FRAMES_SHA256: frame_hash.sha256}


def test_frames_that_are_not_accepted_leave_no_file(tmp_path: Path) -> None:
    def refuse(sha256: str) -> None:
        raise RuntimeError(sha256)

    frame_hash = FrameHash(refuse)
    with pytest.raises(RuntimeError) as refused:
        write(tmp_path / "clip.mp4", frame_hash=frame_hash)
    assert str(refused.value) == frame_hash.sha256
    assert list(tmp_path.iterdir()) == []
