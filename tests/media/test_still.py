from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wan_duet.pipelines.errors import MediaError
from wan_duet.pipelines.media.still import contact_sheet, save_png


def test_a_png_keeps_every_pixel_and_tag(tmp_path: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (6, 10, 3), np.uint8)
    tags = {"prompt": '{"text": "鴨 🦆"}', "workflow": "ä" * 300_000}
    save_png(frame, tmp_path / "frame.png", tags)
    with Image.open(tmp_path / "frame.png") as image:
        assert np.array_equal(np.asarray(image), frame)
        assert dict(image.text) == tags


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no such folder"):
        save_png(np.zeros((2, 2, 3), np.uint8), tmp_path / "no such folder" / "frame.png")


def test_a_contact_sheet_runs_left_to_right_and_then_down() -> None:
    sheet = contact_sheet([np.full((2, 4, 3), level, np.uint8) for level in (10, 20, 30)], columns=2)
    assert sheet[::2, ::4, 0].tolist() == [[10, 20], [30, 0]]
