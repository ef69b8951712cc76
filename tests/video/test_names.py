"""Names that mean something to libav, and files that name others."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from wan_duet.pipelines.cli import main
from wan_duet.pipelines.errors import MediaError
from wan_duet.pipelines.video.audio import read_audio
from wan_duet.pipelines.video.probe import probe
from wan_duet.pipelines.video.read import read_frames

from .clips import moving, tone, write

unix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")


@unix
@pytest.mark.parametrize(
    "name", ["a:b.mkv", "http:x.mkv", "pipe:1.mkv", "concat:a|b.mkv", "file:a.mkv", "-a%03d*?.mkv", "é ü.mkv"]
)
def test_every_name_that_the_system_allows_works_in_and_out(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, 5, audio=tone(1))
    (tmp_path / "out").mkdir()
    out = tmp_path / "out" / name
    assert main(["media", "convert", str(tmp_path / name), "-o", str(out)]) == 0
    assert all(np.array_equal(a, b) for a, b in zip(read_frames(out), moving(5), strict=True))
    assert read_audio(out) is not None
    assert [file.name for file in out.parent.iterdir()] == [name]


@unix
def test_a_relative_name_with_a_colon_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("a:b.mp4"), 5)
    assert main(["media", "convert", "a:b.mp4", "-o", "http:c.mp4"]) == 0
    assert probe(tmp_path / "http:c.mp4").frames == 5


@pytest.fixture
def listener() -> Iterator[tuple[str, list[object]]]:
    """An address of this machine, and who called it."""
    callers: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with suppress(OSError):
                while True:
                    caller, address = server.accept()
                    callers.append(address)
                    caller.close()

        threading.Thread(target=answer, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/a.ts", callers
        server.shutdown(socket.SHUT_RDWR)


def playlists(address: str) -> dict[str, str]:
    return {
        "hls.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}\n#EXT-X-ENDLIST\n",
        "concat.mp4": f"ffconcat version 1.0\nfile '{address}'\n",
        "session.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=a\nc=IN IP4 127.0.0.1\nt=0 0\n"
        "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        "dash.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT1S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" '
        f'bandwidth="1"><BaseURL>{address}</BaseURL></Representation></AdaptationSet></Period></MPD>',
    }


@pytest.mark.parametrize("name", ["hls.m3u8", "concat.mp4", "session.sdp", "dash.mpd"])
def test_no_file_makes_libav_call_an_address(
    tmp_path: Path, listener: tuple[str, list[object]], name: str
) -> None:
    address, callers = listener
    content = playlists(address)[name].encode()
    (tmp_path / name).write_bytes(content)
    for source in (tmp_path / name, content):
        with pytest.raises(MediaError):
            list(read_frames(source))
    with pytest.raises(MediaError):
        probe(Path(address))
    assert callers == []


def test_album_art_is_no_video(tmp_path: Path) -> None:
    cover = tmp_path / "cover.jpg"
    Image.new("RGB", (64, 64), "red").save(cover)
    song = tmp_path / "song.mp3"
    with av.open(str(song), "w") as output, av.open(str(cover)) as art:
        sound = output.add_stream("libmp3lame", rate=44_100)
        picture = output.add_stream_from_template(art.streams.video[0])
        picture.disposition = av.stream.Disposition.attached_pic.value  # PyAV 16.0 takes a number alone
        samples = (tone(1, channels=2).samples * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples, format="s16p", layout="stereo")
        frame.sample_rate = 44_100
        for packet in art.demux():
            if packet.size:
                packet.stream = picture
                output.mux(packet)
        output.mux(sound.encode(frame))
        output.mux(sound.encode(None))
    with av.open(str(song)) as made:
        assert len(made.streams.video) == 1
    for read in (probe, lambda path: list(read_frames(path))):
        with pytest.raises(
            MediaError, match=r"song\.mp3 has no video stream in it \(a picture in it is album"
        ):
            read(song)
    assert read_audio(song) is not None


CONVERT = "from wan_duet.pipelines.cli import main; import sys; sys.exit(main(sys.argv[1:]))"


def test_two_conversions_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    for name, count in (("a.mkv", 60), ("b.mkv", 90)):
        write(tmp_path / name, count)
    out = tmp_path / "out.mp4"
    command = [sys.executable, "-c", CONVERT, "media", "convert"]
    runs = [
        subprocess.Popen([*command, str(tmp_path / name), "-o", str(out)], stderr=subprocess.PIPE, text=True)
        for name in ("a.mkv", "b.mkv")
    ]
    said = [run.communicate()[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert probe(out).frames in (60, 90)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.mkv", "b.mkv", "out.mp4"]
