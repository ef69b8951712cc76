"""Decides how a video file is written, from its suffix and what is wished beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import MediaError
from .codecs import CODECS, Codec, codec_of
from .containers import CONTAINERS, Container, container_of

if TYPE_CHECKING:
    from .kept_hdr import HdrTags

__all__ = ["AUTO", "FormatWish", "VideoFormat", "format_of"]

AUTO = "auto"


@dataclass(frozen=True)
class FormatWish:
    """What is wished of a file, beside its suffix.

    codec: its name, or "auto" for the usual one of the suffix.
    alpha: keep transparency. The frames are then (H, W, 4), with straight alpha.
    deep:  store more than 8 bits.
    hdr:   keep HDR, and write this beside it. The frames are then uint16 Y'CbCr.
    """

    codec: str = AUTO
    alpha: bool = False
    deep: bool = False
    hdr: HdrTags | None = None


_USUAL = FormatWish()


@dataclass(frozen=True)
class VideoFormat:
    """How a file is written."""

    container: Container
    codec: Codec
    alpha: bool
    deep: bool = False
    hdr: HdrTags | None = None

    @property
    def pix_fmt(self) -> str:
        if self.alpha:
            return self.codec.alpha_pix_fmt
        return self.codec.deep_pix_fmt if self.deep or self.hdr is not None else self.codec.pix_fmt

    @property
    def dtype(self) -> str:
        """The type of the numbers of the frames that are encoded."""
        return "uint8" if self.hdr is None else "uint16"

    def encoder_options(self, quality: str, write_mode: str, frame_count: int) -> dict[str, str]:
        """Return the encoder options of a clip. Raises MediaError for an unknown quality or write mode."""
        options = self.codec.encoder_options(quality, write_mode, frame_count)
        more = {} if self.hdr is None else self.hdr.encoder_options(self.codec.encoder)
        joined = {name: f"{options[name]}:{text}" for name, text in more.items() if name in options}
        return {**options, **more, **joined}

    @property
    def sound(self) -> str:
        """The encoder of the sound. Empty if the file has none."""
        return self.container.sound and (self.codec.sound or self.container.sound)

    @property
    def is_sequence(self) -> bool:
        """Whether each frame is a file."""
        return not self.container.muxer

    @property
    def channels(self) -> int:
        """The channels of the frames that are encoded."""
        return 4 if self.alpha else 3


def format_of(path: Path, wish: FormatWish = _USUAL) -> VideoFormat:
    """Return the format of a file at `path`, which may be a folder for a sequence of pictures.

    Raises MediaError for an unknown suffix or codec, for a codec that the suffix does not hold, and for
    transparency that the codec does not hold.
    """
    container = _container(path, wish)
    codec = codec_of(_usual_codec(container, wish) if wish.codec == AUTO else wish.codec)
    if codec.name not in container.codecs:
        raise MediaError(
            f"codec {codec.name}: a .{container.name} file holds {_listed(container.codecs)}; "
            f"{_listed(_suffixes(codec))} holds {codec.name}"
        )
    if wish.alpha and not codec.alpha_pix_fmt:
        able = [name for name, each in CODECS.items() if each.alpha_pix_fmt]
        raise MediaError(
            f"codec {codec.name} holds no transparency; {_listed(able)} do, or lay it over a background"
        )
    if wish.hdr is not None and not codec.holds_hdr:
        able = [name for name, each in CODECS.items() if each.holds_hdr]
        raise MediaError(f"codec {codec.name} holds no HDR; {_listed(able)} do, or tone-map it")
    if wish.deep and not codec.deep_pix_fmt:
        able = [name for name, each in CODECS.items() if each.deep_pix_fmt]
        raise MediaError(f"codec {codec.name} is not written with more than 8 bits; {_listed(able)} are")
    if wish.alpha and wish.deep and codec.alpha_pix_fmt != codec.deep_pix_fmt.replace("yuv4", "yuva4"):
        raise MediaError(f"codec {codec.name} holds transparency with 8 bits only")
    return VideoFormat(container, codec, wish.alpha, wish.deep, wish.hdr)


def _usual_codec(container: Container, wish: FormatWish) -> str:
    """Return the first codec of a format, or the first that holds HDR where it is kept."""
    able = [name for name in container.codecs if CODECS[name].holds_hdr]
    return able[0] if wish.hdr is not None and able else container.codecs[0]


def _container(path: Path, wish: FormatWish) -> Container:
    """Return the format of a suffix, or of a folder for the pictures of a sequence."""
    named = CONTAINERS.get(wish.codec)
    if named is not None and not named.muxer and (path.is_dir() or not path.suffix):
        return named
    return container_of(path)


def _suffixes(codec: Codec) -> list[str]:
    return [f".{name}" for name, container in CONTAINERS.items() if codec.name in container.codecs]


def _listed(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(names)
