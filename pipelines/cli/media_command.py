"""`wan-duet media`: inspect videos, convert them, and decode saved latents."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..device.memory import DeviceMemory
from ..device.precision import PRECISIONS
from ..errors import RequestError
from ..video.output import require_writable
from ..video.video_format import FormatWish, VideoFormat, format_of
from .media_flags import add_edit_flags, add_source_flags, at_least_one
from .piped_files import PIPE, input_file, output_file, output_name
from .subcommands import add_command, add_group
from .terminal import TerminalProgress

if TYPE_CHECKING:
    from ..vae.standalone import HasVae
    from ..video.edit import Edit
    from ..video.kept_hdr import HdrTags
    from ..video.more_frames import Interpolator
    from ..video.probe import VideoFacts

__all__ = ["add_media_command"]


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
    add_edit_flags(convert, fps="frame rate before interpolation; duration and sound stay as they are")
    add_source_flags(convert)

    text = "draw a contact sheet: one row of evenly spaced frames for each video, to compare runs"
    sheet = add_command(verbs, "sheet", _sheet, text)
    sheet.add_argument("files", type=Path, nargs="+", metavar="IN", help="videos, or pictures")
    sheet.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.png")
    sheet.add_argument(
        "--columns", type=at_least_one, default=6, metavar="N", help="frames of each video; default: 6"
    )
    sheet.add_argument(
        "--width",
        type=at_least_one,
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
    add_edit_flags(decode, fps="frame rate before interpolation")


def _probe(options: argparse.Namespace) -> int:
    from ..video.probe import probe

    with input_file(options.file) as source:
        _show(replace(probe(source), path=options.file), as_json=options.json)
    return 0


def _convert(options: argparse.Namespace) -> int:
    from ..video.colour import Colour
    from ..video.edit import Edit, write_edited
    from ..video.frame_pixels import background_of
    from ..video.kept_hdr import HdrTags
    from ..video.source_clip import SourceWish, draw_between, open_clip
    from ..video.tags import content_tags

    keeps_alpha, keeps_hdr = options.alpha == "keep", options.hdr == "keep"
    any_hdr = HdrTags(Colour()) if keeps_hdr else None
    form_wish = FormatWish(options.codec, keeps_alpha, options.bit_depth > 8, any_hdr)
    form = _checked_output(options, form_wish)
    wish = SourceWish(
        options.fps,
        background=None if keeps_alpha else background_of(options.background),
        with_sound=bool(form.sound) and not options.no_audio,
        audio_track=options.audio_track,
        salvage=options.salvage,
    )
    with input_file(options.file) as source, output_file(options.output, form.container.name) as out:
        if keeps_hdr:
            form_wish = replace(form_wish, hdr=_kept(source, options.file))
        clip = open_clip(source, replace(wish, keep_hdr=form_wish.hdr is not None))
        facts = clip.facts
        if facts.audio is not None and not form.sound and not options.no_audio:
            name = form.container.name
            print(f"the sound is left out: a .{name} file cannot contain sound", file=sys.stderr)
        edit = _edit(options, Edit(clip.fps), draws=clip.is_resampled)
        needed = edit.between > 0 or (clip.is_resampled and edit.interpolator != "none")
        if needed and keeps_alpha:
            raise RequestError.of("--alpha", "keep, with new frames", "give flatten, or no --interpolator")
        if needed and form_wish.hdr is not None:
            raise RequestError.of("--hdr", "keep, with new frames", "give tone-map, or no --interpolator")
        memory = DeviceMemory(options.device)
        interpolator = _interpolator(options, edit, memory, facts.width, facts.height) if needed else None
        clip, edit = draw_between(clip, edit, interpolator)
        written = write_edited(
            clip.frames(),
            out,
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
        _show_written(options, form, written)
    return 0


def _kept(source: Path, name: Path) -> HdrTags | None:
    """Return what stands beside the HDR of a file. None, and says so, if it is SDR."""
    from ..video.kept_hdr import hdr_tags

    tags = hdr_tags(source, str(name))
    if tags is None:
        print(f"{name} is SDR: there is no HDR to keep", file=sys.stderr)
    return tags


def _sheet(options: argparse.Namespace) -> int:
    from ..video.contact_sheet import contact_sheet
    from ..video.hdr import note_on_colours
    from ..video.image import image_bytes, write_image

    if options.output != PIPE:
        if options.output.suffix.lower() != ".png":
            raise RequestError.of("--output", f"got {options.output.name}", "give a .png file, or -")
        require_writable(options.output)
    with ExitStack() as inputs, output_file(options.output, "png") as out:
        videos = [(file.name, inputs.enter_context(input_file(file))) for file in options.files]
        for name, file in videos:
            if note := note_on_colours(file):
                print(f"{name}: {note}", file=sys.stderr)
        pixels = contact_sheet(videos, options.columns, options.width)
        write_image(out, image_bytes(pixels, "png", {}))
        height, width = pixels.shape[:2]
        if options.json:
            print(json.dumps({"path": str(options.output), "width": width, "height": height}))
        else:
            print(f"{options.output}: {width}x{height}")
    return 0


def _decode(options: argparse.Namespace) -> int:
    from ..generate.memory_estimate import frame_size
    from ..generate.render import render
    from ..loading.wan_model import load_model
    from ..vae.standalone import read_vae
    from ..video.edit import Edit
    from ..video.latent_file import read_latents

    form_wish = FormatWish(options.codec, deep=options.bit_depth > 8)
    form = _checked_output(options, form_wish)
    with input_file(options.file) as source:
        file = read_latents(source)
    if options.vae is None:
        model: HasVae = load_model(options.model, precision=options.precision)
    else:
        model = read_vae(options.vae, options.precision)
    edit = _edit(options, file.edit or Edit(Fraction(model.family.default_fps)))
    memory = DeviceMemory(options.device)
    size = frame_size(model, file.latents.shape)
    with output_file(options.output, form.container.name) as out:
        rendered = render(
            model,
            file.latents,
            out,
            edit,
            memory,
            TerminalProgress(sys.stderr),
            frames=file.frames,
            interpolator=_interpolator(options, edit, memory, *size) if edit.between else None,
            tags=lambda _: file.tags,
            # Latents of a failed run are kept there: the folder of a piped output is removed.
            place=Path(tempfile.gettempdir(), out.name) if options.output == PIPE else None,
            wish=form_wish,
        )
        assert rendered.facts is not None  # noqa: S101  of a video
        _show_written(options, form, rendered.facts)
    return 0


def _checked_output(options: argparse.Namespace, wish: FormatWish) -> VideoFormat:
    """Return the format of the output. Raises before any work if it cannot be written."""
    from ..video.image_sequence import require_no_frames, sequence_place

    named = output_name(options.output, options.container, wish.codec)
    form = format_of(named, wish)
    if form.is_sequence and options.output == PIPE:
        raise RequestError.of(
            "--codec", f"{form.codec.name} is many files", "pipe a video, such as gif or mkv"
        )
    if form.is_sequence:
        require_no_frames(sequence_place(named, form.container.name))
    elif options.output != PIPE:
        require_writable(named)
    return form


def _show_written(options: argparse.Namespace, form: VideoFormat, written: VideoFacts) -> None:
    """Print what is in the file, as it is read back."""
    from ..video.probe import probe

    facts = replace(written if form.is_sequence else probe(written.path), path=options.output)
    _show(facts, as_json=options.json)
    if options.output == PIPE and form.container.holds_tags:
        print("no file is written: tags, such as a receipt, are inside the video and not beside it")


def _edit(options: argparse.Namespace, base: Edit, *, draws: bool = False) -> Edit:
    """Return `base` with the values of the command line.

    draws: an interpolator has work without new frames between two: it draws those of another rate.
    """
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
