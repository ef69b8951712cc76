"""Limits which files a runner may read for a request: media from sockets, and files in ComfyUI's folders.

A request may come from a workflow of somebody else, and everybody who knows its address can read an upload.
So a name means a file that the user gave to ComfyUI, and no other file of this machine.
"""

from __future__ import annotations

import tempfile
import wave
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import folder_paths

from ..pipelines.errors import RequestError
from ..pipelines.files.on_disk import FileInUseError, move_into_place
from ..pipelines.files.sample_inputs import sample_input
from .lora_files import lora_sources
from .media import from_socket

if TYPE_CHECKING:
    from .media import SocketMedium

__all__ = ["allowed_file", "written_media", "written_video"]

_FOLDER = "wan_duet_outgoing"  # in temp, which ComfyUI empties at its start
_WAV_FULL = 2**15 - 1


def allowed_file(name: str, field: str) -> Path:
    """Return a LoRA in models/loras, a file in the input folder or one that comes with the pack.

    Raises RequestError for others.
    """
    if field.startswith("loras"):
        return lora_sources(online=False).find(name)
    if sample := sample_input(name):
        return sample
    bare, folder = folder_paths.annotated_filepath(name)  # the name may end with [output]
    root = Path(folder or folder_paths.get_input_directory()).resolve()
    file = (root / bare.strip()).resolve()
    if not file.is_relative_to(root) or not file.is_file():
        fix = "copy the file into ComfyUI's input folder and give its name, connect it, or give an address"
        raise RequestError.of(field, f"{name[:200]} is no file of ComfyUI's input folder", fix)
    return file


def written_media(media: Mapping[str, SocketMedium]) -> dict[str, Path]:
    """Write each medium of a request to a file, once. Returns {field: file}."""
    return {field: _WRITERS[medium.medium](medium.value, medium.sha256) for field, medium in media.items()}


def written_video(video: Any) -> Path:
    """Write a VIDEO that is no field of a request to a file."""
    medium = from_socket("pose_video", "video", video)
    return _film(video, medium.sha256)


def _picture(image: Any, sha256: str) -> Path:
    from ..pipelines.video.image import image_bytes

    pixels = (image[0].detach().float().cpu().clamp(0, 1) * 255).round().byte().numpy()
    return _written(f"{sha256}.png", lambda part: part.write_bytes(image_bytes(pixels, "png", {})))


def _sound(audio: Mapping[str, Any], sha256: str) -> Path:
    """Write a sound with 16 bits, which every reader of WAV supports."""
    samples = audio["waveform"][0].detach().float().cpu().clamp(-1, 1)
    pcm = (samples * _WAV_FULL).round().short().T.contiguous().numpy()

    def write(part: Path) -> None:
        with wave.open(str(part), "wb") as file:
            file.setnchannels(pcm.shape[1])
            file.setsampwidth(2)
            file.setframerate(int(audio["sample_rate"]))
            file.writeframes(pcm.astype("<i2").tobytes())

    return _written(f"{sha256}.wav", write)


def _film(video: Any, sha256: str) -> Path:
    """Return the file of a video, or write one with ComfyUI if only a part of it is used."""
    source = video.get_stream_source()
    if isinstance(source, str) and video.get_active_trim_window() == (0.0, 0.0):
        return Path(source)
    return _written(f"{sha256}.mp4", lambda part: video.save_to(str(part)))


_WRITERS: Mapping[str, Callable[[Any, str], Path]] = {"image": _picture, "audio": _sound, "video": _film}


def _written(name: str, write: Callable[[Path], object]) -> Path:
    """Write a file completely or not at all: several runs may write the same one."""
    folder = Path(folder_paths.get_temp_directory()) / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    if not file.exists():
        with tempfile.TemporaryDirectory(dir=folder) as place:
            part = Path(place) / name
            write(part)
            try:
                move_into_place(part, file)
            except FileInUseError:
                if not file.exists():  # else it is the same content, which another run reads just now
                    raise
    return file
