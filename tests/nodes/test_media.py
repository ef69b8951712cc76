"""Media from a socket, and the hash that names them."""

from __future__ import annotations

import dataclasses
from io import BytesIO
from pathlib import Path

import pytest
import torch

from wan_duet.nodes.media import from_socket
from wan_duet.pipelines.errors import RequestError

IMAGE = torch.rand(1, 4, 6, 3, generator=torch.Generator().manual_seed(0))
AUDIO = {"waveform": torch.rand(1, 2, 100, generator=torch.Generator().manual_seed(0)), "sample_rate": 8000}


@dataclasses.dataclass
class Video:
    """What a VIDEO of ComfyUI is asked."""

    source: str | BytesIO
    window: tuple[float, float] = (0.0, 0.0)

    def get_stream_source(self) -> str | BytesIO:
        return self.source

    def get_active_trim_window(self) -> tuple[float, float]:
        return self.window


def sha(medium: str, value: object) -> str:
    return from_socket("some_url", medium, value).sha256


def test_an_image_is_named_by_its_pixels_and_its_shape() -> None:
    assert sha("image", IMAGE) == sha("image", IMAGE.clone())
    assert len({sha("image", IMAGE), sha("image", IMAGE + 0.1), sha("image", IMAGE.reshape(1, 6, 4, 3))}) == 3


def test_any_layout_and_precision_in_memory_can_be_hashed() -> None:
    turned = IMAGE.permute(0, 2, 1, 3)
    assert sha("image", turned) == sha("image", turned.contiguous())
    assert sha("image", IMAGE.bfloat16()) == sha("image", IMAGE.bfloat16().float())


def test_a_sound_is_named_by_its_samples_and_its_rate() -> None:
    assert sha("audio", AUDIO) == sha("audio", dict(AUDIO))
    assert sha("audio", AUDIO) != sha("audio", {**AUDIO, "sample_rate": 16000})


def test_a_video_is_named_by_its_bytes_wherever_they_are_and_by_its_cut(tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    file.write_bytes(b"moving")
    assert sha("video", Video(str(file))) == sha("video", Video(BytesIO(b"moving")))
    assert sha("video", Video(str(file))) != sha("video", Video(str(file), (1.0, 0.0)))


@pytest.mark.parametrize(
    ("medium", "value", "first"),
    [
        ("image", torch.cat([IMAGE, 1 - IMAGE]), IMAGE),
        ("audio", {**AUDIO, "waveform": torch.cat([AUDIO["waveform"], -AUDIO["waveform"]])}, AUDIO),
    ],
)
def test_each_of_a_batch_is_as_if_it_were_connected_alone(medium: str, value: object, first: object) -> None:
    batch = from_socket("some_url", medium, value)
    one, other = batch.each()
    assert (batch.size, one.size) == (2, 1)
    assert one.sha256 == sha(medium, first)
    assert len({batch.sha256, one.sha256, other.sha256}) == 3
    assert one.each() == [one]


def test_a_video_is_one(tmp_path: Path) -> None:
    video = from_socket("video_url", "video", Video(BytesIO(b"moving")))
    assert (video.size, video.each()) == (1, [video])


@pytest.mark.parametrize(
    ("medium", "value"),
    [("image", IMAGE[:0]), ("audio", {**AUDIO, "waveform": torch.zeros(0, 1, 4)})],
)
def test_an_empty_batch_is_refused_by_the_name_of_its_socket(medium: str, value: object) -> None:
    with pytest.raises(RequestError, match=f"^some: an empty batch; connect one {medium} or more"):
        from_socket("some_url", medium, value)
