"""Inputs about the video file that a node writes, shared by several nodes."""

from __future__ import annotations

from ..pipelines.video.codecs import CODECS
from ..pipelines.video.containers import CONTAINERS, ODD
from ..pipelines.video.cuts import SCENE_THRESHOLD
from ..pipelines.video.video_format import AUTO
from .comfy_interface import io

__all__ = [
    "alpha_input",
    "background_input",
    "codec_input",
    "container_input",
    "hdr_input",
    "odd_input",
    "scene_threshold_input",
]

_FILES = tuple(name for name, container in CONTAINERS.items() if container.muxer)
_OF_FILES = tuple(name for name in CODECS if any(name in CONTAINERS[file].codecs for file in _FILES))


_FILES_TOLD = (
    "mp4 plays everywhere, webm in web browsers, mov in editing programs. mkv is lossless and large, "
    "whatever the quality setting; ComfyUI cannot open a workflow from it. webp and gif are moving pictures."
)


def container_input(*sequences: str) -> io.Input:
    """sequences: those of numbered pictures that the node writes too."""
    told = f"{_FILES_TOLD} png and exr (linear light) are folders of numbered pictures."
    return io.Combo.Input(
        "container",
        options=[*_FILES, *sequences],
        default="mp4",
        optional=True,
        tooltip=told if sequences else _FILES_TOLD,
    )


def codec_input() -> io.Input:
    return io.Combo.Input(
        "codec",
        options=[AUTO, *_OF_FILES],
        default=AUTO,
        optional=True,
        tooltip="How pictures are stored. auto: h264 in mp4, vp9 in webm, ffv1 (lossless) in mkv, prores in "
        "mov. h265 and av1 make smaller files than h264; old players lack them.",
    )


def alpha_input() -> io.Input:
    return io.Combo.Input(
        "alpha",
        options=["flatten", "keep"],
        default="flatten",
        optional=True,
        tooltip="keep: transparency stays, in webm (vp9), mkv (ffv1), mov (prores-4444) and webp. flatten: "
        "it is laid over the background.",
    )


def hdr_input() -> io.Input:
    return io.Combo.Input(
        "hdr",
        options=["tone-map", "keep"],
        default="tone-map",
        optional=True,
        tooltip="What becomes of an HDR video. tone-map: SDR, which every screen shows. keep: HDR with 10 "
        "bits, in h265 or av1 (mp4, webm, mkv).",
    )


def background_input() -> io.Input:
    return io.String.Input(
        "background",
        default="white",
        optional=True,
        tooltip="Colour behind transparency: a name such as black, or #rrggbb.",
    )


def odd_input() -> io.Input:
    return io.Combo.Input(
        "odd",
        options=list(ODD),
        default="pad",
        optional=True,
        tooltip="An odd width or height, where the format needs an even one: pad repeats the last pixels, "
        "crop cuts them, refuse is an error.",
    )


def scene_threshold_input() -> io.Input:
    return io.Float.Input(
        "scene_threshold",
        default=SCENE_THRESHOLD,
        min=0.0,
        max=1.0,
        step=0.05,
        round=0.001,
        optional=True,
        tooltip="Above it two frames are of different shots, and no frame is interpolated between them. 1 "
        "finds no cuts.",
    )
