"""Lists the video codecs that are written, and what quality and write mode mean in each.

This table is all that the command line, the nodes and the encoders know of a codec.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from ..errors import MediaError

__all__ = ["CODECS", "QUALITIES", "WRITE_MODES", "Codec", "codec_of"]

QUALITIES = ("low", "medium", "high", "maximum")
WRITE_MODES = ("fast", "balanced", "small")
_SHORT = 3  # frames; below it a clip is short


@dataclass(frozen=True)
class Codec:
    """One video codec.

    name:      as users and ffmpeg name it. stored: libav's name of what is in the file.
    encoder:   libav's name of the encoder.
    pix_fmt:   of the file. alpha_pix_fmt, deep_pix_fmt: with transparency, and with 10 bits from more than 8.
               Empty if the codec has none.
    block:     width and height of the pixels that share a colour; the sides are multiples of it.
    qualities: {video_quality: encoder options}. Empty for a lossless codec.
    modes:     {video_write_mode: encoder options}.
    crf_shift: {video_write_mode: added to the CRF of the quality}, so that all modes look about the same.
    always:    encoder options. short: those that a clip of one or two frames needs instead.
    tag:       four letters that name the codec in MP4 and MOV, where libav's own do not play everywhere.
    sound:     encoder of the sound beside it, if not the usual one of the container.
    least:     the smallest width and height, in pixels.
    holds_hdr: whether the side data of HDR fits in.
    """

    name: str
    stored: str
    encoder: str
    pix_fmt: str
    alpha_pix_fmt: str = ""
    deep_pix_fmt: str = ""
    block: tuple[int, int] = (1, 1)
    qualities: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    modes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    crf_shift: Mapping[str, int] = field(default_factory=dict)
    always: Mapping[str, str] = field(default_factory=dict)
    short: Mapping[str, str] = field(default_factory=dict)
    tag: str = ""
    sound: str = ""
    least: int = 1
    holds_hdr: bool = False

    @property
    def is_rgb(self) -> bool:
        """Whether the file holds RGB, not luma and colour differences."""
        return not self.pix_fmt.startswith("yuv")

    def encoder_options(self, quality: str, write_mode: str, frame_count: int = _SHORT) -> dict[str, str]:
        """Return the encoder options of a clip. Raises MediaError for an unknown quality or write mode."""
        if quality not in QUALITIES:
            raise MediaError(f"video_quality {quality!r} is unknown; one of {', '.join(QUALITIES)} works")
        if write_mode not in WRITE_MODES:
            raise MediaError(
                f"video_write_mode {write_mode!r} is unknown; one of {', '.join(WRITE_MODES)} works"
            )
        options = {**self.always, **self.qualities.get(quality, {}), **self.modes.get(write_mode, {})}
        if write_mode in self.crf_shift:
            options["crf"] = str(int(options["crf"]) + self.crf_shift[write_mode])
        return options if frame_count >= _SHORT else {**options, **self.short}


def codec_of(name: str) -> Codec:
    """Return the codec of that name. Raises MediaError if it is unknown, or PyAV has no encoder for it."""
    from av import codecs_available  # only here: the command line lists codecs without loading libav

    if name not in CODECS:
        raise MediaError(f"codec {name!r} is unknown; one of {', '.join(CODECS)} works")
    if CODECS[name].encoder not in codecs_available:
        raise MediaError(f"codec {name}: this PyAV comes without {CODECS[name].encoder}; use another codec")
    return CODECS[name]


def _each(key: str, low: str, medium: str, high: str, maximum: str) -> dict[str, dict[str, str]]:
    return {name: {key: value} for name, value in zip(QUALITIES, (low, medium, high, maximum), strict=True)}


def _modes(key: str, fast: str, balanced: str, small: str) -> dict[str, dict[str, str]]:
    return {name: {key: value} for name, value in zip(WRITE_MODES, (fast, balanced, small), strict=True)}


# Without these the number of cores decides how many frames are encoded at once, and so the file, and the
# CPU's instruction set is written into it.
_X265 = "frame-threads=2:info=0:log-level=error"
# CRF: at least the luma PSNR of h264 at the same quality, on the clip of bench/encode_table.py.
_ALL = (
    Codec(
        "h264",
        "h264",
        "libx264",
        "yuv420p",
        deep_pix_fmt="yuv420p10le",
        block=(2, 2),
        qualities=_each("crf", "28", "23", "18", "13"),
        modes=_modes("preset", "veryfast", "medium", "slower"),
        crf_shift={"fast": 0, "balanced": 0, "small": 1},  # measured: bench/results/encode-repeats.json
        # With its macroblock tree x264 makes different files of equal frames now and then, whose pixels
        # differ by up to 22 of 255.
        always={"x264-params": "mbtree=0"},
        least=2,
    ),
    Codec(
        "h265",
        "hevc",
        "libx265",
        "yuv420p",
        deep_pix_fmt="yuv420p10le",
        block=(2, 2),
        qualities=_each("crf", "30", "25", "20", "14"),
        modes=_modes("preset", "veryfast", "medium", "slow"),
        always={"x265-params": _X265},
        # Else decoding times are what lay in memory: x265 takes them from the third frame.
        short={"x265-params": f"{_X265}:bframes=0"},
        tag="hvc1",  # Apple's players take no hev1
        least=16,
        holds_hdr=True,
    ),
    Codec(
        "av1",
        "av1",
        "libsvtav1",
        "yuv420p",
        deep_pix_fmt="yuv420p10le",
        block=(2, 2),
        qualities=_each("crf", "46", "36", "26", "12"),
        modes=_modes("preset", "10", "8", "5"),
        least=32,  # narrower than 28, the SVT-AV1 of PyAV 16.0 never ends
        holds_hdr=True,
    ),
    Codec(
        "vp9",
        "vp9",
        "libvpx-vp9",
        "yuv420p",
        alpha_pix_fmt="yuva420p",
        block=(2, 2),
        qualities=_each("crf", "40", "33", "26", "10"),
        # deadline: realtime does not keep qualities apart
        modes=_modes("cpu-used", "5", "3", "1"),
        always={"deadline": "good", "b": "0", "row-mt": "1"},  # without b=0 the CRF is only a floor
        least=2,
    ),
    Codec(
        "ffv1",
        "ffv1",
        "ffv1",
        "bgr0",
        alpha_pix_fmt="bgra",
        always={"level": "3", "slices": "4", "slicecrc": "1"},
    ),
    Codec(
        "prores",
        "prores",
        "prores_ks",
        "yuv422p10le",
        deep_pix_fmt="yuv422p10le",
        block=(2, 1),
        qualities=_each("profile", "proxy", "lt", "standard", "hq"),
        always={"vendor": "apl0"},  # Apple's programs take files of no other
        sound="pcm_s24le",
        least=2,
    ),
    Codec(
        "prores-4444",
        "prores",
        "prores_ks",
        "yuv444p10le",
        alpha_pix_fmt="yuva444p10le",
        deep_pix_fmt="yuv444p10le",
        qualities=_each("profile", "4444", "4444", "4444", "4444xq"),
        always={"vendor": "apl0"},
        sound="pcm_s24le",
    ),
    Codec(
        "webp",
        "webp",
        "libwebp_anim",
        "bgra",
        alpha_pix_fmt="bgra",
        qualities=_each("quality", "40", "60", "80", "95"),
        modes=_modes("compression_level", "1", "4", "6"),
    ),
    Codec(
        "gif",
        "gif",
        "gif",
        "pal8",
        qualities=_each("max_colors", "32", "64", "128", "256"),
        modes=_modes("dither", "none", "sierra2_4a", "bayer:bayer_scale=5"),
    ),
    Codec("png", "png", "png", "rgb24", alpha_pix_fmt="rgba"),
    Codec(
        "exr",
        "exr",
        "exr",
        "gbrpf32le",
        alpha_pix_fmt="gbrapf32le",
        qualities=_each("format", "half", "half", "half", "float"),
        always={"compression": "zip16"},  # lossless, and what most programs write
    ),
)
CODECS: Mapping[str, Codec] = MappingProxyType({codec.name: codec for codec in _ALL})
"""By name, the most common first."""
