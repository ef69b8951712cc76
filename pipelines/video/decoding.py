"""Decodes streams of a file. On request it leaves out what is damaged, and counts what was sent."""

from __future__ import annotations

import errno
from collections import Counter, deque
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
    """Counts packets by the index of their stream.

    sent: to a decoder. cut: outside the file's edit. damaged: they, or frames in them.
    """

    sent: Counter[int] = field(default_factory=Counter)
    cut: Counter[int] = field(default_factory=Counter)
    damaged: Counter[int] = field(default_factory=Counter)

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

    An AVI says when a frame is decoded, and not when it is shown: those are the same times in another order.

    salvage: leave out damaged packets and frames, and what cannot be read on. Else av.FFmpegError is raised.
    """
    decoders = {stream.index: _decoder(stream) for stream in streams}
    tally = tally or Tally()
    last: dict[int, Any] = {}
    is_avi = "avi" in container.format.name.split(",")
    times: dict[int, deque[int | None]] = {
        stream.index: deque() for stream in streams if is_avi and stream.type == "video"
    }
    for packet in _packets(container, streams, salvage):
        of = packet.stream.index
        if not packet.size and packet.pts is not None:  # Theora: the frame before is shown again
            if of in last:
                last[of].pts = packet.pts
                yield last[of]
            continue
        if packet.size:
            (tally.cut if packet.is_discard else tally.sent)[of] += 1
            if of in times:
                times[of].append(packet.dts)
        try:
            frames = decoders[of].decode(packet)
            damaged = packet.is_corrupt or any(frame.is_corrupt for frame in frames)
        except av.FFmpegError:
            if not salvage:
                raise
            frames, damaged = [], True
        if damaged and not salvage:
            raise av.InvalidDataError(errno.EINVAL, "a part of it is damaged")
        tally.damaged[of] += damaged
        for frame in frames:
            if of in times:
                frame.pts = times[of].popleft() if times[of] else None
            if frame.is_corrupt:  # libav has filled in what is missing
                continue
            if frame.time_base is None:
                frame.time_base = packet.time_base
            last[of] = frame
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
