"""What a request brings along: pictures and clips, found, hashed and looked at before any work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .errors import MediaError, ModelError, RequestError
from .media.clip import clip_size, count_frames
from .media.local_file import FindFile, LocalFile, any_file, file_at, file_in_data_uri, of_type
from .media.picture import read_picture
from .request import MEDIA, Report, WanRequest

__all__ = ["Given", "judged", "look_at_media", "resampled_to"]

_SHAPING = ("image_url", "video_url")  # the fields whose picture gives the result its shape


@dataclass(frozen=True)
class Given:
    """files:  by the field that names them.
    size:   (width, height) in pixels of the input whose shape the result keeps; None without one.
    frames: how many a video has for this request, counted no further than asked for; None without one.
    more:   whether the video goes on after them.
    """

    files: Mapping[str, LocalFile] = field(default_factory=lambda: MappingProxyType({}))
    size: tuple[int, int] | None = None
    frames: int | None = None
    more: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For the receipt: each file by its content, never by where it lies."""
        return {
            name: {"name": file.name, "sha256": file.sha256, "size_bytes": file.size_bytes}
            for name, file in self.files.items()
        }

    def require(self, recorded: Mapping[str, Any]) -> None:
        """Raise ModelError when a file is another one than `as_dict` recorded."""
        wrong = [name for name, file in self.as_dict().items() if file["sha256"] != _sha(recorded, name)]
        if wrong:
            raise ModelError(f"{', '.join(wrong)}: not the file of the receipt; give the same one")


def look_at_media(
    request: WanRequest, media: Mapping[str, Path] = MappingProxyType({}), find: FindFile = any_file
) -> Given:
    """Every file that `request` names.

    media: {field: the file written for the medium that was connected to it}.
    find:  the file that a name in a field means, or a RequestError.

    Raises RequestError for what is no file of this machine, MediaError for one that cannot be read.
    """
    files: dict[str, LocalFile] = {}
    for name in MEDIA:
        value = getattr(request, name, None)
        if value is None:
            continue
        if name in media:
            file = file_at(media[name], name)
        elif value[:5].lower() == "data:":
            file = file_in_data_uri(value, name)
        elif value.startswith("sha256:"):
            raise RequestError.of(name, "its medium is missing", "connect it again, or give a file")
        elif "://" in value:
            raise RequestError.of(name, "an address", "save it and give the file, or connect it")
        else:
            file = file_at(find(value, name), name)
        files[name] = of_type(file, name)
    shaping = next((name for name in _SHAPING if name in files), None)
    size = None if shaping is None else _size(files[shaping], shaping)
    if "video_url" not in files:
        return Given(MappingProxyType(files), size)
    wanted = int(getattr(request, "num_frames"))  # noqa: B009  of a kind that has a video
    counted = count_frames(files["video_url"].content, resampled_to(request), wanted + 1)
    return Given(MappingProxyType(files), size, min(counted, wanted), counted > wanted)


def resampled_to(request: WanRequest) -> Fraction | None:
    """The rate that frames of the input are chosen at; None takes one after the other."""
    if not getattr(request, "resample_fps", None):
        return None
    return Fraction(getattr(request, "frames_per_second"))  # noqa: B009


def judged(report: Report, request: WanRequest, given: Given) -> Report:
    """`report`, with what only the files themselves could tell."""
    asked = next((item for item in report.findings if item.field == "num_frames"), None)
    if given.frames is None or asked is None or asked.status == "impossible":
        return report
    wanted = int(asked.used)
    has = f"the video has {given.frames} frames"
    if resampled_to(request) is not None:
        has += f" at {resampled_to(request)} per second"
    if given.frames < wanted:
        if request.is_preference("num_frames"):
            finding = replace(asked, status="adjusted", used=given.frames, reason=f"{has}, and all are used")
        else:
            finding = replace(
                asked,
                status="impossible",
                used=None,
                reason=f"{has}; keep the default to use all of them, or give a longer one",
            )
    elif given.more or given.frames > wanted:
        reason = f"{asked.reason}; the rest of the video is left out"
        finding = replace(asked, reason=reason)
    else:
        return report
    return replace(report, findings=tuple(finding if item is asked else item for item in report.findings))


def _size(file: LocalFile, name: str) -> tuple[int, int]:
    try:
        if MEDIA[name] == "video":
            return clip_size(file.content)
        height, width = read_picture(file.content).shape[:2]
        return width, height
    except MediaError as error:
        raise MediaError(f"{name}: {error}") from error


def _sha(recorded: Mapping[str, Any], name: str) -> str:
    entry = recorded.get(name)
    return str(entry["sha256"]) if isinstance(entry, Mapping) else ""
