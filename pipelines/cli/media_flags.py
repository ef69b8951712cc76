"""The flags of `wan-duet media convert` and `decode`."""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path

from ..video.codecs import CODECS, QUALITIES, WRITE_MODES
from ..video.containers import ODD
from ..video.video_format import AUTO
from .piped_files import PIPEABLE
from .subcommands import add_interpolator_folders

__all__ = ["add_edit_flags", "add_source_flags", "at_least_one"]

_ALPHA = ("flatten", "keep")
_BIT_DEPTHS = (8, 10)
_HDR = ("tone-map", "keep")
_INTERPOLATORS = ("none", "flow", "film", "rife")
_MOST_BETWEEN = 16
_FASTEST_FPS = 1000
_LARGEST = 4096  # columns, or pixels of a frame, in a contact sheet


def add_source_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how an input file is read."""
    parser.add_argument(
        "--background", default="white", metavar="COLOUR", help="behind transparency; default: white"
    )
    parser.add_argument(
        "--alpha",
        choices=_ALPHA,
        default="flatten",
        help="keep transparency (vp9, ffv1, prores-4444, webp, png, exr), or lay it over the background; "
        "default: flatten",
    )
    parser.add_argument(
        "--hdr",
        choices=_HDR,
        default="tone-map",
        help="turn HDR into SDR, or keep it with 10 bits (h265, av1); default: tone-map",
    )
    parser.add_argument(
        "--odd",
        choices=ODD,
        default="pad",
        help="an odd width or height, where the format needs even ones: add a pixel, cut one, or refuse",
    )
    parser.add_argument(
        "--audio-track", type=_from_zero, default=0, metavar="N", help="which sound; default: 0, the first"
    )
    parser.add_argument(
        "--salvage", action="store_true", help="leave out damaged frames instead of refusing the file"
    )


def add_edit_flags(parser: argparse.ArgumentParser, fps: str) -> None:
    """Add the flags of an `Edit`. Without a flag, the value of the file or of `Edit` is used."""
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="OUT",
        help=".mp4, .webm, .mkv (lossless), .mov (ProRes), .webp, .gif, name_%%05d.png or .exr (linear), a "
        "folder with --codec png or exr; - is standard output",
    )
    parser.add_argument(
        "--container", choices=PIPEABLE, help="of standard output; default: the usual one of the codec"
    )
    parser.add_argument(
        "--codec",
        choices=(AUTO, *CODECS),
        default=AUTO,
        help="of the pictures; default: the usual one of the suffix. .mp4: h264, h265, av1; .mov: prores, "
        "prores-4444, h264, h265; .webm: vp9, av1; .mkv: ffv1, h264, h265, av1, vp9",
    )
    parser.add_argument(
        "--interpolator", choices=_INTERPOLATORS, help="what generates the new frames; default: flow"
    )
    add_interpolator_folders(parser)
    parser.add_argument(
        "--num-interpolated-frames",
        type=_between,
        metavar="N",
        help="number of new frames between two frames",
    )
    parser.add_argument("--fps", type=_fps, metavar="F", help=fps)
    parser.add_argument(
        "--adjust-fps",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="raise the frame rate to keep the duration, or play in slow motion; default: keep it",
    )
    parser.add_argument(
        "--reverse", action=argparse.BooleanOptionalAction, default=None, help="play the frames backwards"
    )
    parser.add_argument(
        "--scene-threshold",
        type=_share,
        metavar="T",
        help="above it, 0 to 1, two frames are of different shots and nothing is drawn between them; 1 finds "
        "no cuts; default: 0.3",
    )
    parser.add_argument(
        "--bit-depth",
        type=int,
        choices=_BIT_DEPTHS,
        default=8,
        help="10: smoother gradients (h264, h265, av1; ProRes always has them); default: 8",
    )
    parser.add_argument("--quality", choices=QUALITIES, help="default: high; .mkv is always lossless")
    parser.add_argument("--write-mode", choices=WRITE_MODES, help="default: balanced")
    parser.add_argument(
        "--device", help="device for the new frames: cpu, cuda, mps; default: the best available"
    )


def _fps(text: str) -> Fraction:
    try:
        fps = Fraction(text)
    except (ValueError, ZeroDivisionError):
        fps = Fraction(0)
    if not 0 < fps <= _FASTEST_FPS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a frame rate; write it as 24 or 24000/1001, at most {_FASTEST_FPS}"
        )
    return fps.limit_denominator(1001)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return share


def _between(text: str) -> int:
    if not text.isdecimal() or int(text) > _MOST_BETWEEN:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {_MOST_BETWEEN}")
    return int(text)


def _from_zero(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def at_least_one(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _LARGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {_LARGEST}")
    return int(text)
