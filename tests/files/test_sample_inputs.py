"""toy/face.png and toy/speech.wav are inputs of a request wherever a file is."""

from __future__ import annotations

from pathlib import Path

import pytest

from wan_duet.pipelines.fleet.travelling_files import travelling
from wan_duet.pipelines.generate.media_inputs import read_media_inputs
from wan_duet.pipelines.generate.recorded_inputs import recorded_inputs
from wan_duet.pipelines.request import parse
from wan_duet.pipelines.video.local_file import any_file

SPEECH = {"prompt": "a person speaks", "image_url": "toy/face.png", "audio_url": "toy/speech.wav"}


def test_a_request_names_the_inputs_of_the_pack() -> None:
    found = read_media_inputs(parse("speech-to-video", SPEECH))
    assert found.facts.size == (64, 64)
    assert found.facts.seconds == pytest.approx(2.5)


def test_a_receipt_finds_them_again() -> None:
    request = parse("speech-to-video", SPEECH)
    recorded = {name: file.as_dict() for name, file in read_media_inputs(request).files.items()}
    assert recorded_inputs(recorded, ()).keys() == {"image_url", "audio_url"}


def test_they_travel_to_other_machines_as_files() -> None:
    sent, files = travelling(SPEECH)
    assert {file.path.name for file in files} == {"face.png", "speech.wav"}
    assert str(sent["image_url"]).startswith("content:")


def test_any_other_name_is_a_path() -> None:
    assert any_file("toy/nothing.png", "image_url") == Path("toy/nothing.png")
