"""What the settings of the video file in `local` mean, and where they do nothing or cannot be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .report import Finding
from .result_formats import CODECS_OF
from .settings_case import SettingsCase

__all__ = ["FILE_MEANINGS", "impossible_file", "unexpected_file"]

FILE_MEANINGS: Mapping[str, str] = {
    "container": "the suffix of the file. On the command line `-o OUT.mov` says it too.",
    "codec": "mp4 holds h264, h265 and av1; mov holds prores, prores-4444, h264 and h265.",
    "bit_depth": "10 bits are rounded from the VAE's 8, so that the encoder adds no steps of its own. ProRes "
    "always has 10.",
    "scene_threshold": "as in Interpolate: 1 finds no cuts.",
}


def impossible_file(case: SettingsCase) -> Iterator[Finding]:
    """Yield a refusal if the container does not hold the codec."""
    codec, held = case.local.codec, CODECS_OF[case.local.container]
    if codec != "auto" and codec not in held:
        others = " or ".join(name for name, codecs in CODECS_OF.items() if codec in codecs)
        reason = f"a .{case.local.container} file holds {', '.join(held)}; give container {others}"
        yield case.finding("codec", "impossible", reason)


def unexpected_file(case: SettingsCase) -> Iterator[Finding]:
    """Yield a warning per setting that does nothing."""
    asked, values = case.local.asked(), case.values
    if "image_format" in values:
        for name in FILE_MEANINGS:
            if name in asked:
                yield case.finding(name, "warning", "does nothing: the result is an image")
    elif "scene_threshold" in asked and _adds_no_frames(case):
        yield case.finding("scene_threshold", "warning", "does nothing: no frames are interpolated")


def _adds_no_frames(case: SettingsCase) -> bool:
    return case.values["interpolator_model"] == "none" or not case.values["num_interpolated_frames"]
