"""Reads IMAGE, VIDEO and AUDIO from a socket, and hashes them for the request."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..pipelines.errors import RequestError
from ..pipelines.request.media_facts import ClipLength

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from ..pipelines.video.audio import Audio

__all__ = ["SocketMedium", "audio_of", "connected_lengths", "from_socket", "image_of", "one_from_socket"]

_CHUNK = 1 << 20


@dataclass(frozen=True)
class SocketMedium:
    """Implements `pipelines.request.Medium`. value: from the socket. medium: "image", "video" or "audio".

    image: (N, H, W, C), 0 to 1. audio: {"waveform": (N, channels, samples), "sample_rate": Hz}.
    """

    medium: str
    value: Any
    sha256: str

    @property
    def size(self) -> int:
        return 1 if self.medium == "video" else len(_batch(self.medium, self.value))

    def each(self) -> list[SocketMedium]:
        if self.size == 1:
            return [self]
        parts = _batch(self.medium, self.value).split(1)
        if self.medium == "audio":
            parts = tuple({**self.value, "waveform": part} for part in parts)
        return [_hashed(self.medium, part) for part in parts]


def from_socket(field: str, medium: str, value: Any) -> SocketMedium:
    """Hash a medium. Raises RequestError on the socket of `field` for an empty batch of images or sounds."""
    if medium != "video" and not len(_batch(medium, value)):
        raise RequestError.of(field.removesuffix("_url"), "an empty batch", f"connect one {medium} or more")
    return _hashed(medium, value)


def one_from_socket(field: str, medium: str, value: Any) -> SocketMedium:
    """As `from_socket`, where only one can be. Raises RequestError on `field` for a batch."""
    connected = from_socket(field, medium, value)
    if connected.size > 1:
        raise RequestError.of(
            field.removesuffix("_url"), f"{connected.size} in a batch", f"connect one {medium}"
        )
    return connected


def _hashed(medium: str, value: Any) -> SocketMedium:
    digest = hashlib.sha256(medium.encode())
    if medium == "video":
        _add_video(digest, value)
    else:
        _add_tensor(digest, _batch(medium, value))
        if medium == "audio":
            digest.update(str(value["sample_rate"]).encode())
    return SocketMedium(medium, value, digest.hexdigest())


def connected_lengths(media: Mapping[str, SocketMedium]) -> dict[str, ClipLength]:
    """Return {field or entry: length} of the connected videos."""
    return {
        name: ClipLength(medium.value.get_frame_count(), float(medium.value.get_duration()))
        for name, medium in media.items()
        if medium.medium == "video"
    }


def _batch(medium: str, value: Any) -> Tensor:
    tensor: Tensor = value if medium == "image" else value["waveform"]
    return tensor


def image_of(image: Tensor | None, field: str) -> Tensor | None:
    """Return an IMAGE as (H, W, 3), with white behind transparency. Raises RequestError for a batch."""
    from ..pipelines.video.image_tensor import flattened

    if image is None:
        return None
    if len(image) != 1:
        fix = "connect one image, or put Rebatch Images with batch_size 1 in between"
        raise RequestError.of(field, f"{len(image)} in a batch", fix)
    return flattened(image[0].detach().float().cpu())


def audio_of(value: Mapping[str, Any] | None) -> Audio | None:
    """Return an AUDIO for a video file. Raises RequestError for a batch."""
    from ..pipelines.video.audio import Audio

    if value is None:
        return None
    waveform = value["waveform"]
    if len(waveform) != 1:
        raise RequestError.of("audio", f"{len(waveform)} in a batch", "connect one audio")
    return Audio(waveform[0].detach().float().cpu().numpy(), int(value["sample_rate"]))


def _add_tensor(digest: Any, tensor: Tensor) -> None:
    digest.update(str(tuple(tensor.shape)).encode())
    digest.update(tensor.detach().float().cpu().contiguous().numpy())


def _add_video(digest: Any, video: Any) -> None:
    """Hash the file and the part of it that is used. Trimming changes no byte of the file."""
    digest.update(str(video.get_active_trim_window()).encode())
    source = video.get_stream_source()
    if not isinstance(source, str):
        digest.update(source.getbuffer())
        return
    with open(source, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
