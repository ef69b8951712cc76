"""Finds, hashes and measures the files of a request before the run starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..errors import MediaError, ModelError, RequestError
from ..request import MediaFacts, WanRequest
from ..request.field_rows import media_named, medium_of
from ..request.media_facts import NOTHING_KNOWN
from ..request.report import Finding
from ..request.timing import input_fps
from ..video.audio import Audio, read_audio
from ..video.clip import clip_size, count_frames
from ..video.clip_length import known_lengths
from ..video.hdr import note_on_colours
from ..video.local_file import FindFile, LocalFile, any_file, file_at, file_in_data_uri, of_type
from ..video.read_image import image_pixels

__all__ = ["MediaInputs", "media_findings", "read_media_inputs"]

_SHAPING = ("image_url", "video_url")  # the fields whose image size decides the size of the result


@dataclass(frozen=True)
class MediaInputs:
    """The files of a request.

    files: by the field that names them.
    sound: the sound of audio_url, or None.
    facts: their measured size, frames, seconds and hashes.
    """

    files: Mapping[str, LocalFile] = field(default_factory=lambda: MappingProxyType({}))
    sound: Audio | None = None
    facts: MediaFacts = NOTHING_KNOWN

    def as_dict(self) -> dict[str, Any]:
        """Return name, hash and size of each file for the receipt. Its folder is private and left out."""
        return {name: file.as_dict() for name, file in self.files.items()}

    def require(self, recorded: Mapping[str, Any]) -> None:
        """Raise ModelError when a file differs from the one that `as_dict` recorded."""
        wrong = [name for name, file in self.as_dict().items() if file["sha256"] != _sha(recorded, name)]
        if wrong:
            raise ModelError(f"{', '.join(wrong)}: not the file of the receipt; give the same file")


def read_media_inputs(
    request: WanRequest, media: Mapping[str, Path] = MappingProxyType({}), find: FindFile = any_file
) -> MediaInputs:
    """Read every file that `request` names.

    media: {field: the file that was written for a connected input}.
    find:  returns the file for a name in a field, or raises RequestError.

    Raises RequestError when a file is not on this machine or has no sound, MediaError when it cannot be read.
    """
    return _inputs(
        request, {name: _file(name, value, media, find) for name, value in media_named(dict(request)).items()}
    )


def _inputs(request: WanRequest, files: Mapping[str, LocalFile]) -> MediaInputs:
    """Measure the files of a request. Raises as `read_media_inputs`."""
    shaping = next((name for name in _SHAPING if name in files), None)
    size = None if shaping is None else _size(files[shaping], shaping)
    sound = None if "audio_url" not in files else _sound(files["audio_url"])
    facts = MediaFacts(
        size=size,
        frames=None if "video_url" not in files else _count(files["video_url"], request),
        seconds=None if sound is None else sound.samples.shape[1] / sound.rate,
        sha256={name: file.sha256 for name, file in files.items()},
        notes={name: note for name, file in files.items() if (note := _note(name, file))},
    )
    return MediaInputs(MappingProxyType(files), sound, facts)


def media_findings(
    request: WanRequest, media: Mapping[str, Path] = MappingProxyType({}), find: FindFile = any_file
) -> tuple[list[Finding], MediaFacts]:
    """Return a finding for each input file that is missing or cannot be read, and the facts if there is none.

    Addresses are not asked, and of what is only connected nothing is known. media, find: as for
    `read_media_inputs`.
    """
    named = media_named(dict(request))
    here = {name: value for name, value in named.items() if name in media or not _is_elsewhere(value)}
    looked_at = {name: _looked_at(name, value, media, find) for name, value in here.items()}
    files = {name: file for name, file in looked_at.items() if isinstance(file, LocalFile)}
    found = [finding for finding in looked_at.values() if isinstance(finding, Finding)]
    if request.remote_only:  # only its price depends on them
        return found, replace(NOTHING_KNOWN, lengths=known_lengths(request, media, find))
    return found, _inputs(request, files).facts if files.keys() == named.keys() else NOTHING_KNOWN


def _is_elsewhere(value: str) -> bool:
    return value.startswith("sha256:") or ("://" in value and value[:5].lower() != "data:")


def _file(name: str, value: str, media: Mapping[str, Path], find: FindFile) -> LocalFile:
    if name in media:
        file = file_at(media[name], name)
    elif value[:5].lower() == "data:":
        file = file_in_data_uri(value, name)
    elif value.startswith("sha256:"):
        raise RequestError.of(name, "the connected input is missing", "connect it again, or give a file")
    elif "://" in value:
        raise RequestError.of(name, "a web address", "download it and give the file, or connect it")
    else:
        file = file_at(find(value, name), name)
    return of_type(file, name)


def _looked_at(name: str, value: str, media: Mapping[str, Path], find: FindFile) -> LocalFile | Finding:
    """Return the file of a field, or what keeps it from being decoded as the field needs it."""
    try:
        return _decodable(name, value, media, find)
    except RequestError as error:
        reason = "; ".join(f"{problem.found}; {problem.fix}" for problem in error.problems)
    except MediaError as error:
        reason = str(error)
    return Finding(name, "impossible", value, None, reason)


def _decodable(name: str, value: str, media: Mapping[str, Path], find: FindFile) -> LocalFile:
    """Return the file of a field. Raises RequestError or MediaError if it cannot be decoded as needed."""
    kind, file = medium_of(name), _file(name, value, media, find)
    if kind == "image":
        image_pixels(file.content)
    elif kind == "audio":
        _sound(file)
    else:
        clip_size(file.content)
    return file


def _note(name: str, file: LocalFile) -> str:
    return "" if medium_of(name) == "audio" else note_on_colours(file.content)


def _count(video: LocalFile, request: WanRequest) -> int:
    """Count the frames of `video`, up to one more than the request asks for."""
    values = dict(request)
    return count_frames(video.content, input_fps(values), values["num_frames"] + 1)


def _sound(file: LocalFile) -> Audio:
    try:
        sound = read_audio(file.content)
    except MediaError as error:
        found = str(error).partition(";")[0]
        raise RequestError.of(
            "audio_url", found, "give a file that plays, such as WAV, MP3 or MP4"
        ) from error
    if sound is None:
        raise RequestError.of("audio_url", f"{file.name} has no sound in it", "give a file with sound")
    return sound


def _size(file: LocalFile, name: str) -> tuple[int, int]:
    try:
        if medium_of(name) == "video":
            return clip_size(file.content)
        height, width = image_pixels(file.content).shape[:2]
        return width, height
    except MediaError as error:
        raise MediaError(f"{name}: {error}") from error


def _sha(recorded: Mapping[str, Any], name: str) -> str:
    entry = recorded.get(name)
    return str(entry["sha256"]) if isinstance(entry, Mapping) else ""
