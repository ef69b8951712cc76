"""A media file whose end is missing is recognised by the lengths in it, in every container with lengths."""

from __future__ import annotations

import base64
from fractions import Fraction
from functools import cache
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.video.local_file import file_at, file_in_data_uri, of_type
from wan_duet.pipelines.video.stated_end import stated_end

VIDEO = {"mp4": "mpeg4", "mov": "mpeg4", "matroska": "mpeg4", "webm": "libvpx", "avi": "mpeg4", "flv": "flv"}
SOUND = {
    "wav": "pcm_s16le",
    "aiff": "pcm_s16be",
    "mp3": "libmp3lame",
    "ogg": "libopus",
    "asf": "wmav2",
    "matroska": "flac",
}


def video(name: str, codec: str, options: dict[str, str] | None = None) -> bytes:
    memory, random = BytesIO(), np.random.default_rng(0)
    with av.open(memory, "w", format=name, options=options or {}) as container:
        stream = container.add_stream(codec, rate=Fraction(16))
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for _ in range(6):
            pixels = random.integers(0, 255, (32, 32, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode(None))
    return memory.getvalue()


def sound(name: str, codec: str, options: dict[str, str] | None = None) -> bytes:
    memory, rate = BytesIO(), 48_000
    with av.open(memory, "w", format=name, options=options or {}) as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        stream.bit_rate = 64_000
        wave = np.sin(np.arange(rate // 4) / 9)[None].astype(np.float32)
        frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return memory.getvalue()


def animation() -> bytes:
    memory, random = BytesIO(), np.random.default_rng(0)
    pictures = [Image.fromarray(random.integers(0, 255, (16, 16, 3), np.uint8)) for _ in range(3)]
    pictures[0].save(memory, "GIF", save_all=True, append_images=pictures[1:])
    return memory.getvalue()


@cache
def made(name: str) -> bytes:
    """Return a whole file: NAME is a video, `NAME sound` a sound, and LIVE states fewer lengths."""
    if name == "gif":
        return animation()
    if name in LIVE:
        make, container, codec, options = LIVE[name]
        return make(container, codec, options)
    container, _, of_sound = name.partition(" ")
    return sound(container, SOUND[container]) if of_sound else video(container, VIDEO[container])


LIVE = {
    "matroska live": (video, "matroska", "mpeg4", {"live": "1"}),
    "mp3 plain": (sound, "mp3", "libmp3lame", {"write_xing": "0"}),
}
NAMES = [*VIDEO, *(f"{name} sound" for name in SOUND), *LIVE, "gif"]


def is_cut(content: bytes) -> bool:
    return stated_end(BytesIO(content), len(content)) > len(content)


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_file_is_not_cut_off(name: str) -> None:
    assert not is_cut(made(name))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.5, 0.95])
def test_a_broken_download_is_cut_off(name: str, share: float) -> None:
    content = made(name)
    assert is_cut(content[: int(len(content) * share)])


@pytest.mark.parametrize("name", sorted({*VIDEO, "wav sound", "aiff sound"} - {"flv"}))
def test_one_byte_less_is_cut_off(name: str) -> None:
    assert is_cut(made(name)[:-1])


@pytest.mark.parametrize(
    "tag", [b"TAG" + bytes(125), bytes(64), b"some text that a tool appended"], ids=["ID3v1", "zeros", "text"]
)
@pytest.mark.parametrize("name", ["mp4", "mp3 sound", "mp3 plain", "gif", "wav sound"])
def test_what_others_append_is_no_missing_part(name: str, tag: bytes) -> None:
    assert not is_cut(made(name) + tag)


def test_a_transport_stream_ends_with_a_whole_packet() -> None:
    content = video("mpegts", "mpeg2video")
    assert not is_cut(content)
    assert is_cut(content[:-1])


def test_a_program_stream_ends_with_a_whole_packet() -> None:
    content = video("vob", "mpeg2video")
    assert not is_cut(content)
    assert is_cut(content[: len(content) - 100])


def test_a_riff_of_unknown_length_may_end_anywhere() -> None:
    content = made("wav sound")
    place = content.index(b"data") + 4
    streamed = content[:place] + b"\xff\xff\xff\xff" + content[place + 4 :]
    assert not is_cut(streamed[:-100])


@given(st.sampled_from(NAMES), st.integers(0, 2**16), st.binary(max_size=8))
def test_damaged_files_are_read_without_an_error(name: str, place: int, put: bytes) -> None:
    content = made(name)
    at = place % len(content)
    assert stated_end(BytesIO(content[:at] + put + content[at + len(put) :]), len(content)) >= 0


@pytest.mark.parametrize(
    ("field", "name", "told"),
    [("video_url", "clip.mkv", "media convert --salvage"), ("audio_url", "voice.mka", "copy it again")],
)
def test_the_error_names_the_field_the_file_and_what_is_there(
    tmp_path: Path, field: str, name: str, told: str
) -> None:
    content = made("matroska" if field == "video_url" else "matroska sound")
    (tmp_path / name).write_bytes(content)
    assert of_type(file_at(tmp_path / name, field), field).size_bytes == len(content)
    (tmp_path / name).write_bytes(content[:-40])
    size = len(content) - 40
    with pytest.raises(RequestError, match=rf"{field}: {name} is cut off after {size} bytes.*{told}"):
        of_type(file_at(tmp_path / name, field), field)


def test_the_content_of_a_data_uri_is_looked_at_too() -> None:
    whole, cut = (base64.b64encode(content).decode() for content in (made("webm"), made("webm")[:-9]))
    assert of_type(file_in_data_uri(f"data:video/webm;base64,{whole}", "video_url"), "video_url")
    with pytest.raises(RequestError, match="is cut off"):
        of_type(file_in_data_uri(f"data:video/webm;base64,{cut}", "video_url"), "video_url")
