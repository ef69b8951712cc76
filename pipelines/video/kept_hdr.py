"""Keeps HDR on the way from one file to another: its 16-bit Y'CbCr, its codes and its side data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av

from ..errors import MediaError
from .chosen_streams import picture_stream
from .colour import Colour, ContentLight, MasteringDisplay, colour_of, content_light, mastering_display
from .hdr import require_readable
from .open_media import open_media

__all__ = ["HdrTags", "hdr_tags"]


@dataclass(frozen=True)
class HdrTags:
    """What a file with HDR says beside its pixels."""

    colour: Colour
    mastering_display: MasteringDisplay | None = None
    content_light: ContentLight | None = None

    def encoder_options(self, encoder: str) -> dict[str, str]:
        """Return the options of libx265 or libsvtav1 that write the side data."""
        return _x265(self) if encoder == "libx265" else _svt_av1(self)


def hdr_tags(content: Path | bytes, name: str) -> HdrTags | None:
    """Return what a video says. None if it is SDR. Reads one frame.

    name: of the file. Raises MediaError if it cannot be read, or its HDR cannot be kept.
    """
    try:
        with open_media(content) as container:
            stream = picture_stream(container, name)
            colour = colour_of(stream, content)
            require_readable(colour, name)
            if colour.hdr is None:
                return None
            frame = next(container.decode(stream))
    except (OSError, av.FFmpegError) as error:
        raise MediaError(f"cannot read {name} as a video: {error.strerror or error}") from error
    if frame.format.is_rgb or any(part.is_alpha for part in frame.format.components):
        raise MediaError(f"{name} is HDR in {frame.format.name}, which is not kept; tone-map it")
    return HdrTags(colour, mastering_display(frame), content_light(frame))


def _x265(tags: HdrTags) -> dict[str, str]:
    """Return x265-params; x265 counts in steps of 0.00002 and of 0.0001 cd/m2."""
    found = []
    if tags.mastering_display is not None:
        screen = tags.mastering_display
        points = _points(screen, lambda part: str(round(part * 50000)))
        found.append(f"master-display={points}L({round(screen.most * 10000)},{round(screen.least * 10000)})")
    if tags.content_light is not None:
        found.append(f"max-cll={tags.content_light.most},{tags.content_light.average}")
    return {"x265-params": ":".join(found)} if found else {}


def _points(screen: MasteringDisplay, written: Callable[[float], str]) -> str:
    """Return the primaries and the white point of a screen as both encoders read them."""
    corners = {"G": screen.green, "B": screen.blue, "R": screen.red, "WP": screen.white}
    return "".join(f"{name}({written(x)},{written(y)})" for name, (x, y) in corners.items())


def _svt_av1(tags: HdrTags) -> dict[str, str]:
    found = []
    if tags.mastering_display is not None:
        screen = tags.mastering_display
        points = _points(screen, lambda part: f"{part:.5f}")
        found.append(f"mastering-display={points}L({screen.most:.4f},{screen.least:.4f})")
    if tags.content_light is not None:
        found.append(f"content-light={tags.content_light.most},{tags.content_light.average}")
    return {"svtav1-params": ":".join(found)} if found else {}
