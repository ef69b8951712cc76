"""Lists the file formats of a video, and what quality and write mode mean in each.

MP4 plays everywhere, WebM on web pages. MKV is lossless. WebP is a moving thumbnail. Programs that convert
videos offer other formats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType

from ..errors import MediaError

__all__ = ["CONTAINERS", "ODD", "QUALITIES", "WRITE_MODES", "Container", "container_of", "storable"]

QUALITIES = ("low", "medium", "high", "maximum")
WRITE_MODES = ("fast", "balanced", "small")
ODD = ("pad", "crop", "refuse")
"""What can be done with an odd side: repeat its last pixels once, leave them out, or nothing."""

_TICKS = 100  # time units per frame of an MP4, or fewer, so that its duration is exact
_MOST_TICKS = 2**31 - 1  # time units per second: libav stores them as signed 32 bits


@dataclass(frozen=True)
class Container:
    """One file format.

    name:      its suffix, and the name of its muxer.
    encoder:   libav's name of the video encoder. `codec` is the name of its output.
    audio:     encoder of the sound. Empty if the format has no sound.
    qualities: {video_quality: encoder options}. Empty for a lossless format.
    modes:     {video_write_mode: encoder options}.
    crf_shift: {video_write_mode: added to the CRF of the quality}, so that all modes look about the same.
    """

    name: str
    encoder: str
    codec: str
    pix_fmt: str
    audio: str = ""
    qualities: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    modes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    crf_shift: Mapping[str, int] = field(default_factory=dict)
    always: Mapping[str, str] = field(default_factory=dict)

    @property
    def halves_colour(self) -> bool:
        """Whether colour is stored for blocks of 2x2 pixels (4:2:0), so that sides must be even."""
        return self.pix_fmt == "yuv420p"

    def encoder_options(self, quality: str, write_mode: str) -> dict[str, str]:
        """Return the encoder options. Raises MediaError for an unknown quality or write mode."""
        if quality not in QUALITIES:
            raise MediaError(f"video_quality {quality!r} is unknown; one of {', '.join(QUALITIES)} works")
        if write_mode not in WRITE_MODES:
            raise MediaError(
                f"video_write_mode {write_mode!r} is unknown; one of {', '.join(WRITE_MODES)} works"
            )
        options = {**self.always, **self.qualities.get(quality, {}), **self.modes.get(write_mode, {})}
        if write_mode in self.crf_shift:
            options["crf"] = str(int(options["crf"]) + self.crf_shift[write_mode])
        return options

    def muxer_options(self, fps: Fraction) -> dict[str, str]:
        if self.name == "mp4":
            return {
                "movflags": "use_metadata_tags+faststart",  # any tag name is kept; index before the frames
                "movie_timescale": str(_TICKS * fps.numerator),  # the default, 1000, would round the duration
            }
        return {"loop": "0"} if self.name == "webp" else {}


def _each(key: str, low: str, medium: str, high: str, maximum: str) -> dict[str, dict[str, str]]:
    return {name: {key: value} for name, value in zip(QUALITIES, (low, medium, high, maximum), strict=True)}


CONTAINERS: Mapping[str, Container] = MappingProxyType(
    {
        "mp4": Container(
            "mp4",
            "libx264",
            "h264",
            "yuv420p",
            "aac",
            _each("crf", "28", "23", "18", "13"),
            {"fast": {"preset": "veryfast"}, "balanced": {"preset": "medium"}, "small": {"preset": "slower"}},
            {
                "fast": 0,
                "balanced": 0,
                "small": 1,
            },  # about equal luma PSNR: bench/results/encode-repeats.json
            # With its macroblock tree x264 makes different files of equal frames now and then, whose pixels
            # differ by up to 22 of 255.
            always={"x264-params": "mbtree=0"},
        ),
        "webm": Container(
            "webm",
            "libvpx-vp9",
            "vp9",
            "yuv420p",
            "libopus",
            _each("crf", "40", "33", "26", "10"),  # luma PSNR beside x264's, on a moving clip with grain
            {
                name: {"deadline": "good", "cpu-used": speed}  # realtime does not keep qualities apart
                for name, speed in zip(WRITE_MODES, ("5", "3", "1"), strict=True)
            },
            always={"b": "0", "row-mt": "1"},  # without b=0 the CRF is only a floor
        ),
        "mkv": Container(
            "mkv", "ffv1", "ffv1", "bgr0", "flac", always={"level": "3", "slices": "4", "slicecrc": "1"}
        ),
        "webp": Container(
            "webp",
            "libwebp_anim",
            "webp",
            "bgra",
            qualities=_each("quality", "40", "60", "80", "95"),
            modes=dict(
                zip(WRITE_MODES, ({"compression_level": level} for level in ("1", "4", "6")), strict=True)
            ),
        ),
    }
)
"""By name, the most common first."""


def container_of(path: Path) -> Container:
    """Return the format for the suffix of `path`. Raises MediaError for an unknown suffix."""
    name = path.suffix.lower().removeprefix(".")
    if name not in CONTAINERS:
        raise MediaError(
            f"{path}: cannot write {path.suffix or 'a file without a suffix'}; {_choices()} work"
        )
    return CONTAINERS[name]


def storable(fps: Fraction) -> Fraction:
    """Return `fps`, or the nearest rate that a file can hold.

    Videos from phones have varying rates, with averages such as 54870000/1829159.
    """
    most = _MOST_TICKS // _TICKS
    if max(fps.numerator, fps.denominator) <= most:
        return fps
    return fps.limit_denominator(max(int(most / max(fps, Fraction(1))) - 1, 1))


def _choices() -> str:
    return ", ".join(f".{name}" for name in CONTAINERS)
