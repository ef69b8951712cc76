"""Decides how a video file is written, from its suffix and what is wished beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import MediaError
from .codecs import CODECS, Codec, codec_of
from .containers import CONTAINERS, Container, container_of

__all__ = ["AUTO", "FormatWish", "VideoFormat", "format_of"]

AUTO = "auto"


@dataclass(frozen=True)
class FormatWish:
    """What is wished of a file, beside its suffix.

    codec: its name, or "auto" for the usual one of the suffix.
    alpha: keep transparency. The frames are then (H, W, 4), with straight alpha.
    """

    codec: str = AUTO
    alpha: bool = False


_USUAL = FormatWish()


@dataclass(frozen=True)
class VideoFormat:
    """How a file is written."""

    container: Container
    codec: Codec
    alpha: bool

    @property
    def pix_fmt(self) -> str:
        return self.codec.alpha_pix_fmt if self.alpha else self.codec.pix_fmt

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
    codec = codec_of(container.codecs[0] if wish.codec == AUTO else wish.codec)
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
    return VideoFormat(container, codec, wish.alpha)


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
