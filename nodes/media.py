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

__all__ = ["SocketMedium", "audio_of", "connected_lengths", "from_socket", "image_of"]

_CHUNK = 1 << 20
_EACH = {  # how ComfyUI makes one result of each
    "image": ", or put Rebatch Images with batch_size 1 in between: one result is made of each",
    "audio": "",
}


@dataclass(frozen=True)
class SocketMedium:
    """Implements `pipelines.request.Medium`. value: from the socket. medium: "image", "video" or "audio".

    image: (1, H, W, C), 0 to 1. audio: {"waveform": (1, channels, samples), "sample_rate": Hz}.
    """

    medium: str
    value: Any
    sha256: str


def from_socket(field: str, medium: str, value: Any) -> SocketMedium:
    """Hash a medium. Raises RequestError on the socket of `field` for a batch of images or sounds."""
    digest = hashlib.sha256(medium.encode())
    if medium == "video":
        _add_video(digest, value)
    else:
        tensor = value if medium == "image" else value["waveform"]
        if len(tensor) != 1:
            socket = field.removesuffix("_url")
            raise RequestError.of(socket, f"{len(tensor)} in a batch", f"connect one {medium}{_EACH[medium]}")
        _add_tensor(digest, tensor)
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


def image_of(image: Tensor | None, field: str) -> Tensor | None:
    """Return an IMAGE as (H, W, 3), with white behind transparency. Raises RequestError for a batch."""
    from ..pipelines.video.image_tensor import flattened

    if image is None:
        return None
    if len(image) != 1:
        raise RequestError.of(field, f"{len(image)} in a batch", "connect one image")
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
