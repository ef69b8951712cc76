"""`wan-duet media`: inspect videos, convert them, and decode saved latents."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..device.memory import DeviceMemory
from ..device.precision import PRECISIONS
from ..errors import RequestError
from ..video.codecs import CODECS, QUALITIES, WRITE_MODES
from ..video.containers import ODD
from ..video.output import require_writable
from ..video.video_format import AUTO, FormatWish, format_of
from .subcommands import add_command, add_group, add_interpolator_folders
from .terminal import TerminalProgress

if TYPE_CHECKING:
    from ..vae.standalone import HasVae
    from ..video.edit import Edit
    from ..video.more_frames import Interpolator
    from ..video.probe import VideoFacts

__all__ = ["add_media_command"]

_INTERPOLATORS = ("none", "flow", "film", "rife")
_MOST_BETWEEN = 16
_FASTEST_FPS = 1000
_LARGEST = 4096  # columns, or pixels of a frame, in a contact sheet


def add_media_command(commands: Any) -> None:
    """Add `media` to the commands of an argument parser (what `add_subparsers` returned)."""
    text = "inspect videos, convert them, or make a video from saved latents"
    verbs = add_group(commands, "media", text)
    text = "decode a video file, count its frames and print what it contains"
    probe = add_command(verbs, "probe", _probe, text)
    probe.add_argument("file", type=Path, metavar="FILE")

    text = "convert a video: change container or quality, interpolate or reverse it; keeps its tags and sound"
    convert = add_command(verbs, "convert", _convert, text)
    convert.add_argument("file", type=Path, metavar="IN")
    convert.add_argument("--no-audio", action="store_true", help="leave the sound out")
    _add_edit(convert, fps="frame rate before interpolation; duration and sound stay as they are")
    _add_source(convert)

    text = "draw a contact sheet: one row of evenly spaced frames for each video, to compare runs"
    sheet = add_command(verbs, "sheet", _sheet, text)
    sheet.add_argument("files", type=Path, nargs="+", metavar="IN", help="videos, or pictures")
    sheet.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.png")
    sheet.add_argument(
        "--columns", type=_at_least_one, default=6, metavar="N", help="frames of each video; default: 6"
    )
    sheet.add_argument(
        "--width",
        type=_at_least_one,
        default=240,
        metavar="W",
        help="width of a frame in pixels; default: 240",
    )

    text = "make a video from latents that a failed run or ComfyUI saved"
    decode = add_command(verbs, "decode", _decode, text)
    decode.add_argument("file", type=Path, metavar="LATENTS", help="a .latent file")
    source = decode.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", metavar="toy|FOLDER", help="the model that made the latents")
    source.add_argument("--vae", type=Path, metavar="FILE|FOLDER", help="or only its VAE")
    formats = [name for name in PRECISIONS if name != "stored"]  # of experts alone
    decode.add_argument("--precision", choices=formats, default="auto", help="of the VAE; default: auto")
    _add_edit(decode, fps="frame rate before interpolation")


def _add_source(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how an input file is read."""
    parser.add_argument(
        "--background", default="white", metavar="COLOUR", help="behind transparency; default: white"
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


def _add_edit(parser: argparse.ArgumentParser, fps: str) -> None:
    """Add the flags of an `Edit`. Without a flag, the value of the file or of `Edit` is used."""
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="OUT",
        help=".mp4, .webm, .mkv (lossless), .mov (ProRes), .webp",
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
    parser.add_argument("--quality", choices=QUALITIES, help="default: high; .mkv is always lossless")
    parser.add_argument("--write-mode", choices=WRITE_MODES, help="default: balanced")
    parser.add_argument(
        "--device", help="device for the new frames: cpu, cuda, mps; default: the best available"
    )


def _probe(options: argparse.Namespace) -> int:
    from ..video.probe import probe

    _show(probe(options.file), as_json=options.json)
    return 0


def _convert(options: argparse.Namespace) -> int:
    from ..video.edit import Edit, write_edited
    from ..video.frame_pixels import background_of
    from ..video.probe import probe
    from ..video.source_clip import SourceWish, draw_between, open_clip
    from ..video.tags import content_tags

    form_wish = FormatWish(options.codec)
    takes_sound = bool(format_of(options.output, form_wish).sound)
    require_writable(options.output)
    wish = SourceWish(
        options.fps,
        background=background_of(options.background),
        with_sound=takes_sound and not options.no_audio,
        audio_track=options.audio_track,
        salvage=options.salvage,
    )
    clip = open_clip(options.file, wish)
    facts = clip.facts
    if facts.audio is not None and not takes_sound and not options.no_audio:
        print(f"the sound is left out: a {options.output.suffix} file cannot contain sound", file=sys.stderr)
    edit = _edit(options, Edit(clip.fps), draws=clip.is_resampled)
    needed = edit.between > 0 or (clip.is_resampled and edit.interpolator != "none")
    memory = DeviceMemory(options.device)
    interpolator = _interpolator(options, edit, memory, facts.width, facts.height) if needed else None
    clip, edit = draw_between(clip, edit, interpolator)
    write_edited(
        clip.frames(),
        options.output,
        edit,
        count=clip.count,
        width=facts.width,
        height=facts.height,
        interpolator=interpolator,
        tags=content_tags(facts.tags),
        audio=clip.sound,
        progress=TerminalProgress(sys.stderr),
        odd=options.odd,
        wish=form_wish,
    )
    _show(probe(options.output), as_json=options.json)
    return 0


def _sheet(options: argparse.Namespace) -> int:
    from ..video.contact_sheet import contact_sheet
    from ..video.hdr import note_on_colours
    from ..video.image import image_bytes, write_image

    if options.output.suffix.lower() != ".png":
        raise RequestError.of("--output", f"got {options.output.name}", "give a .png file")
    require_writable(options.output)
    for file in options.files:
        if note := note_on_colours(file):
            print(f"{file}: {note}", file=sys.stderr)
    videos = [(file.name, file) for file in options.files]
    pixels = contact_sheet(videos, options.columns, options.width)
    write_image(options.output, image_bytes(pixels, "png", {}))
    if options.json:
        print(json.dumps({"path": str(options.output), "width": pixels.shape[1], "height": pixels.shape[0]}))
    else:
        print(f"{options.output}: {pixels.shape[1]}x{pixels.shape[0]}")
    return 0


def _decode(options: argparse.Namespace) -> int:
    from ..generate.memory_estimate import frame_size
    from ..generate.render import render
    from ..loading.wan_model import load_model
    from ..vae.standalone import read_vae
    from ..video.edit import Edit
    from ..video.latent_file import read_latents
    from ..video.probe import probe

    form_wish = FormatWish(options.codec)
    format_of(options.output, form_wish)
    require_writable(options.output)
    file = read_latents(options.file)
    if options.vae is None:
        model: HasVae = load_model(options.model, precision=options.precision)
    else:
        model = read_vae(options.vae, options.precision)
    edit = _edit(options, file.edit or Edit(Fraction(model.family.default_fps)))
    memory = DeviceMemory(options.device)
    size = frame_size(model, file.latents.shape)
    render(
        model,
        file.latents,
        options.output,
        edit,
        memory,
        TerminalProgress(sys.stderr),
        frames=file.frames,
        interpolator=_interpolator(options, edit, memory, *size) if edit.between else None,
        tags=lambda _: file.tags,
        wish=form_wish,
    )
    _show(probe(options.output), as_json=options.json)
    return 0


def _edit(options: argparse.Namespace, base: Edit, *, draws: bool = False) -> Edit:
    """Return `base` with the values of the command line.

    draws: an interpolator has work without new frames between two: it draws those of another rate.
    """
    from dataclasses import replace

    given = {
        "fps": options.fps,
        "reverse": options.reverse,
        "interpolator": options.interpolator,
        "num_interpolated_frames": options.num_interpolated_frames,
        "adjust_fps": options.adjust_fps,
        "quality": options.quality,
        "write_mode": options.write_mode,
        "scene_threshold": options.scene_threshold,
    }
    edit = replace(base, **{name: value for name, value in given.items() if value is not None})
    if options.interpolator is None and options.num_interpolated_frames and edit.interpolator == "none":
        edit = replace(edit, interpolator="flow")
    if options.interpolator not in (None, "none") and not edit.num_interpolated_frames and not draws:
        raise RequestError.of(
            "--num-interpolated-frames", "not given", "give the number of new frames, such as 1, or --fps"
        )
    return edit


def _interpolator(
    options: argparse.Namespace, edit: Edit, memory: DeviceMemory, width: int, height: int
) -> Interpolator:
    from ..interpolation.interpolator_files import find_interpolators, make_interpolator

    found = find_interpolators(options.interpolator_folder)
    return make_interpolator(edit.interpolator, found, memory, width=width, height=height)


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


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _LARGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {_LARGEST}")
    return int(text)


def _show(facts: VideoFacts, *, as_json: bool) -> None:
    if as_json:
        answer = {**vars(facts), "path": str(facts.path), "fps": str(facts.fps), "tags": dict(facts.tags)}
        answer["audio"] = None if facts.audio is None else vars(facts.audio)
        answer["first_frame_s"] = float(facts.first_frame_s)
        answer["largest_deviation_s"] = facts.largest_deviation_s
        for name in ("colour", "mastering_display", "content_light"):
            answer[name] = None if answer[name] is None else asdict(answer[name])
        del answer["times"]
        print(json.dumps(answer, indent=2, ensure_ascii=False))
        return
    line = f"{facts.path}: {facts.width}x{facts.height}, {facts.frames} frames, {float(facts.fps):g} fps, "
    line += f"{facts.duration_s:.3f} s, {facts.codec} {facts.pix_fmt}"
    if facts.audio is not None:
        sound = facts.audio
        line += f", {sound.codec} {sound.rate} Hz x{sound.channels} {sound.duration_s:.3f} s"
        line += f" from {sound.offset_s:+.3f} s" if abs(sound.offset_s) >= 0.001 else ""
    print(line)
    if facts.largest_deviation_s is not None and facts.times is not None:
        constant = "constant" if facts.times.is_constant else "varying"
        print(f"  rate: {constant}, frames are up to {facts.largest_deviation_s:.3f} s from a constant one")
    for line in _colour_lines(facts):
        print(f"  {line}")
    for name, text in facts.tags.items():
        print(f"  {name}: {text if len(text) <= 80 else f'{len(text)} characters'}")


def _colour_lines(facts: VideoFacts) -> Iterator[str]:
    """Say what a file says of its colours, and what a reader makes of HDR."""
    from ..video.hdr import hdr_note, unreadable

    colour, screen, light = facts.colour, facts.mastering_display, facts.content_light
    stated = {name: getattr(colour, name) for name in ("matrix", "primaries", "transfer", "range")}
    if said := ", ".join(f"{name} {value}" for name, value in stated.items() if value != "unknown"):
        yield f"colour: {said}"
    if screen is not None:
        yield f"graded on a screen of {screen.least:g} to {screen.most:g} cd/m2"
    if light is not None:
        yield f"light: at most {light.most} cd/m2, in the average of a frame {light.average}"
    if note := unreadable(colour) or hdr_note(colour):
        yield note
