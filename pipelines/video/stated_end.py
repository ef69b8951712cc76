"""Reads from the structure of a media file where it must end, without decoding it.

A download that broke off leaves a file whose last part is longer than what is there. In a damaged file a part
does not begin where the one before it ends. Where no part states its length, nothing can be said.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from io import SEEK_END, BytesIO
from pathlib import Path
from typing import BinaryIO

__all__ = ["is_cut_off", "stated_end"]

_UNKNOWN = 0x7FFF_0000  # RIFF: what is written for a length that is not known yet is above
_CHUNK = 2**20
_HEAD = 256  # bytes: the starts of two packets of MPEG-TS
_TS_PACKETS = ((188, 0), (192, 4), (204, 0))  # ISO/IEC 13818-1 2.4.3, and two forms with more per packet
# ISO/IEC 14496-12, and QuickTime's. Anything else between boxes was appended by somebody.
_BOXES = frozenset(
    b"ftyp styp pdin moov moof mfra mdat free skip wide meta meco uuid sidx ssix prft emsg pnot udta".split()
)
# RFC 9559: the two that are entered, and what is in them.
_EBML_SEGMENT, _EBML_CLUSTER = 0x18538067, 0x1F43B675
_EBML_IN_CLUSTER = {0xA3, 0xA0, 0xE7, 0xA7, 0xAB, 0xAF, 0x5854, 0xEC, 0xBF}
_EBML_IN_SEGMENT = {0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367}
_EBML_PARTS = {0x1A45DFA3, _EBML_SEGMENT, _EBML_CLUSTER, *_EBML_IN_CLUSTER, *_EBML_IN_SEGMENT}
# ISO/IEC 11172-3 and 13818-3: kbit/s of layer III by index, of MPEG 1, then of 2 and 2.5.
_MP3_KBIT = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
_MP3_RATES = (44_100, 48_000, 32_000)  # of MPEG 1; halved for 2, quartered for 2.5


def is_cut_off(content: Path | bytes) -> bool:
    """Return whether the end of a file is missing, or one of its parts is not where it must be.

    Raises OSError if it cannot be read.
    """
    if isinstance(content, bytes):
        return stated_end(BytesIO(content), len(content)) > len(content)
    with content.open("rb") as stream:
        size = stream.seek(0, SEEK_END)
        stream.seek(0)
        return stated_end(stream, size) > size


def stated_end(stream: BinaryIO, size: int) -> int:
    """Return the length in bytes that a file must at least have. 0 if its parts state none.

    It is above `size`, the length that the file has, if the end is missing or a part is damaged.
    """
    walk = _walk_for(stream.read(_HEAD))
    try:
        return 0 if walk is None else walk(stream, size)
    except IndexError:  # the header of a part is cut off
        return size + 1


def _walk_for(head: bytes) -> Callable[[BinaryIO, int], int] | None:
    kind = head[8:12]
    if head[4:8] in _BOXES:
        return _boxes
    if head[:4] == b"RIFF" and kind in (b"AVI ", b"WAVE", b"WEBP"):
        return _riff
    if head[:4] == b"FORM" and kind in (b"AIFF", b"AIFC"):
        return _form
    starts: tuple[tuple[bytes, Callable[[BinaryIO, int], int]], ...] = (
        (b"\x1aE\xdf\xa3", _ebml),
        (b"FLV", _flv),
        (b"OggS", _ogg),
        (b"GIF8", _gif),
        (bytes.fromhex("3026b2758e66cf11"), _asf),
        (b"\0\0\1\xba", _program_stream),
        (b"ID3", _mp3),
    )
    for start, walk in starts:
        if head.startswith(start):
            return walk
    for length, offset in _TS_PACKETS:
        if all(head[offset + at : offset + at + 1] == b"G" for at in (0, length)):
            return lambda _, size: -(-size // length) * length
    return _mp3 if _mp3_frame(head[:4]) else None


def _read(stream: BinaryIO, at: int, size: int) -> bytes:
    """Raise IndexError if the file ends before."""
    stream.seek(at)
    found = stream.read(size)
    if len(found) < size:
        raise IndexError
    return found


def _boxes(stream: BinaryIO, size: int) -> int:
    """MP4, MOV, M4A, HEIC."""
    at = 0
    while at < size:
        head = _read(stream, at, 8)
        length, name = struct.unpack(">I4s", head)
        if name not in _BOXES or length == 0:  # 0: up to the end of the file
            return size + 1 if length and _goes_on(stream, at, b"moof") else at
        if length == 1:
            (length,) = struct.unpack(">Q", _read(stream, at + 8, 8))
        at += max(length, 8)
    return at


def _goes_on(stream: BinaryIO, at: int, mark: bytes) -> bool:
    """Return whether a part that begins with `mark` comes after what is none."""
    stream.seek(at)
    before = b""
    while chunk := stream.read(_CHUNK):
        if mark in before + chunk:
            return True
        before = chunk[-len(mark) :]
    return False


def _riff(stream: BinaryIO, size: int) -> int:
    """AVI, WAV, WebP. The length of the whole is too large by 8 in some files, so the parts are asked."""
    return _chunks(stream, size, "<")


def _form(stream: BinaryIO, size: int) -> int:
    """AIFF."""
    return _chunks(stream, size, ">")


def _chunks(stream: BinaryIO, size: int, order: str) -> int:
    (whole,) = struct.unpack(f"{order}I", _read(stream, 4, 4))
    at = end = 12
    while at < size:
        name, length = struct.unpack(f"{order}4sI", _read(stream, at, 8))
        appended = 0 < whole <= at - 8 and name != b"RIFF"  # an AVI goes on in a second RIFF
        if appended or length >= _UNKNOWN:
            return end
        end = at + 8 + length
        if name == b"LIST" and not _all_chunks(stream, at, min(end, size)):
            return size + 1
        at = end + length % 2
    return end


def _all_chunks(stream: BinaryIO, at: int, end: int) -> bool:
    """Return whether the frames of an AVI begin one after another. True for a list of anything else."""
    if _read(stream, at + 8, 4) != b"movi":
        return True
    at += 12
    while at + 8 <= end:
        name, length = struct.unpack("<4sI", _read(stream, at, 8))
        if not (name[:2].isdigit() or name[:2] == b"ix" or name in (b"JUNK", b"LIST", b"idx1")):
            return False
        at += 12 if name == b"LIST" else 8 + length + length % 2
    return True


def _ebml(stream: BinaryIO, size: int) -> int:
    """Matroska and WebM. Segments and clusters are entered: a stream begins before their length is known."""
    at = end = 0
    while at < size:
        number, after = _vint(stream, at, keep_marker=True)
        if number not in _EBML_PARTS:
            damaged = at < end or _goes_on(stream, at, _EBML_CLUSTER.to_bytes(4, "big"))
            return size + 1 if damaged else at
        length, begin = _vint(stream, after, keep_marker=False)
        unknown = length == (1 << 7 * (begin - after)) - 1
        entered = number in (_EBML_SEGMENT, _EBML_CLUSTER)
        if unknown and not entered:
            return at
        if entered and not unknown:
            end = max(end, begin + length)
        at = begin if entered else begin + length
    return max(at, end)


def _vint(stream: BinaryIO, at: int, *, keep_marker: bool) -> tuple[int, int]:
    """Return a number of variable length (RFC 8794, 4) and the place after it."""
    first = _read(stream, at, 1)[0]
    if not first:
        raise IndexError
    width = 9 - first.bit_length()
    value = int.from_bytes(_read(stream, at, width), "big")
    return (value if keep_marker else value & ((1 << 7 * width) - 1)), at + width


def _flv(stream: BinaryIO, size: int) -> int:
    at = int.from_bytes(_read(stream, 5, 4), "big") + 4
    while at < size:
        at += 15 + int.from_bytes(_read(stream, at, 4)[1:], "big")
    return at


def _ogg(stream: BinaryIO, size: int) -> int:
    """Ogg, page after page. What others appended has no page in it."""
    at = 0
    while at < size:
        if _read(stream, at, min(4, size - at)) != b"OggS"[: size - at]:
            return size + 1 if _goes_on(stream, at, b"OggS") else at
        segments = _read(stream, at + 26, 1)[0]
        at += 27 + segments + sum(_read(stream, at + 27, segments))
    return at


def _asf(stream: BinaryIO, size: int) -> int:
    """WMA and WMV."""
    at = 0
    while at < size:
        at += max(struct.unpack("<16xQ", _read(stream, at, 24))[0], 24)
    return at


def _program_stream(stream: BinaryIO, size: int) -> int:
    """MPEG-PS: packs and packets (ISO/IEC 13818-1 2.5.3)."""
    at = 0
    while at < size:
        start = _read(stream, at, 4)
        if start[:3] != b"\0\0\1" or start[3] == 0xB9:  # 0xB9: the end code
            return at
        if start[3] == 0xBA:
            of_mpeg_2 = _read(stream, at + 4, 1)[0] >> 6 == 1
            at += 14 + (_read(stream, at + 13, 1)[0] & 7) if of_mpeg_2 else 12
        else:
            at += 6 + int.from_bytes(_read(stream, at + 4, 2), "big")
    return at


def _gif(stream: BinaryIO, _size: int) -> int:
    """GIF89a, up to its trailer."""
    at = 13 + _colours(_read(stream, 10, 1)[0])
    while (kind := _read(stream, at, 1)) != b";":
        if kind == b",":
            at += 11 + _colours(_read(stream, at + 9, 1)[0])
        elif kind == b"!":
            at += 2
        else:
            return 0
        while length := _read(stream, at, 1)[0]:
            at += 1 + length
        at += 1
    return at + 1


def _colours(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _mp3(stream: BinaryIO, size: int) -> int:
    """MP3, frame after frame, between the tags at both ends."""
    at, head = 0, _read(stream, 0, 10)
    if head[:3] == b"ID3":
        at = 10 + sum((byte & 0x7F) << 7 * (3 - place) for place, byte in enumerate(head[6:10]))
    first, end = at, 0
    content = _read(stream, 0, size) if size > at else b""
    while length := _mp3_frame(content[at : at + 4]):
        at = end = at + length
    if not end:
        return at  # no MP3 after the tag, or the tag itself is cut off
    return max(end, _mp3_stated(content, first))


def _mp3_stated(content: bytes, first: int) -> int:
    """Return the end that the first frame states (Xing, Info of LAME), 0 if it states none."""
    for tag in (b"Xing", b"Info"):
        at = content.find(tag, first, first + 64)
        if at >= 0 and content[at + 7] & 2:
            place = at + 8 + 4 * (content[at + 7] & 1)
            return first + int.from_bytes(content[place : place + 4], "big")
    return 0


def _mp3_frame(head: bytes) -> int:
    """Return the length of a frame of layer III with this header of 4 bytes, 0 if it is none."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3  # 3: MPEG 1, 2: MPEG 2, 0: MPEG 2.5; 1: layer III
    bits, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer != 1 or bits in (0, 15) or rate == 3:
        return 0
    of_1 = version == 3
    kbit, hertz = _MP3_KBIT[not of_1][bits], _MP3_RATES[rate] // {3: 1, 2: 2, 0: 4}[version]
    return (144 if of_1 else 72) * 1000 * kbit // hertz + (head[2] >> 1 & 1)
