"""Decodes streams of a file. On request it leaves out what is damaged, and counts what was sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import av
from av.container import InputContainer

__all__ = ["Tally", "decoded"]

# libav's own decoders of VP8 and VP9 drop the alpha that WebM stores beside each frame; libvpx reads it.
_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


@dataclass(frozen=True)
class Tally:
    """Counts packets by the index of their stream. sent: to a decoder. cut: outside the file's edit."""

    sent: Counter[int] = field(default_factory=Counter)
    cut: Counter[int] = field(default_factory=Counter)

    def missing(self, stream: av.VideoStream, frames: int) -> int:
        """Return how many frames of `stream` the file should have beside the `frames` that were decoded."""
        entries = getattr(stream, "index_entries", None)
        stated = stream.frames if entries is None else len(entries)  # PyAV 16.0 has no entries
        indexed = stated - self.cut[stream.index]
        return max(indexed, self.sent[stream.index], frames) - frames


def decoded(
    container: InputContainer, streams: Sequence[Any], *, salvage: bool = False, tally: Tally | None = None
) -> Iterator[Any]:
    """Yield the frames of `streams`, in the order of the file.

    salvage: leave out damaged packets, and what cannot be read on. Else av.FFmpegError is raised.
    """
    decoders = {stream.index: _decoder(stream) for stream in streams}
    for packet in _packets(container, streams, salvage):
        if tally is not None and packet.size:
            (tally.cut if packet.is_discard else tally.sent)[packet.stream.index] += 1
        try:
            frames = decoders[packet.stream.index].decode(packet)
        except av.FFmpegError:
            if not salvage:
                raise
            continue
        for frame in frames:
            if frame.time_base is None:
                frame.time_base = packet.time_base
            yield frame


def _decoder(stream: Any) -> Any:
    alpha = {name.lower(): value for name, value in stream.metadata.items()}.get("alpha_mode") == "1"
    name = _WITH_ALPHA.get(stream.codec_context.codec.canonical_name) if alpha else None
    return stream if name is None else av.CodecContext.create(name, "r")


def _packets(container: InputContainer, streams: Sequence[Any], salvage: bool) -> Iterator[av.Packet]:
    packets = container.demux(*streams)
    try:
        yield from packets
    except av.FFmpegError:
        if not salvage:
            raise
        for stream in streams:
            end = av.Packet()
            end.stream = stream
            yield end
