"""Writes latents as a video or image, frame by frame. Keeps them on disk until the file is complete."""

from __future__ import annotations

import itertools
import logging
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError
from torch import Tensor

from ..device.memory import Memory
from ..errors import MediaError, ModelError, SafetyError, is_out_of_memory
from ..files.on_disk import discard
from ..loading.host_model import has_whole_vae
from ..parallel.rank_group import RankGroup
from ..progress import Progress
from ..vae.standalone import HasVae
from ..vae.tile_size import smaller_tiling
from ..vae.tiles import Tiling
from ..video.audio import Audio
from ..video.edit import Edit, write_edited
from ..video.frame_hash import FrameHash, with_hash
from ..video.frame_stream import Frame, FrameStream, close
from ..video.frames import video_frames
from ..video.image import image_bytes, write_image
from ..video.latent_file import LatentFile, write_latents
from ..video.more_frames import Interpolator
from ..video.probe import VideoFacts, probe, verify
from ..video.video_format import FormatWish
from .frame_stages import decode
from .memory_estimate import frame_size, vae_tiling

__all__ = [
    "FrameCheck",
    "Rendered",
    "checked_frames",
    "render",
    "render_image",
    "tiling_note",
    "with_tile_fallback",
]

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_USUAL = FormatWish()

FrameCheck = Callable[[int, Frame], None]  # (the number of a frame, the frame)


@dataclass(frozen=True)
class Rendered:
    """A finished file.

    tiling: how its frames were decoded. frames: those frames, if they were to be kept. facts: of a video.
    frames_sha256: of the frames in the file, as `FrameHash` computes it.
    """

    tiling: Tiling | None
    frames_sha256: str
    frames: list[Frame] = field(default_factory=list)
    facts: VideoFacts | None = None


def render(
    model: HasVae,
    latents: Tensor,
    out: Path,
    edit: Edit,
    memory: Memory,
    progress: Progress,
    *,
    frames: int | None = None,
    interpolator: Interpolator | None = None,
    tags: Callable[[Tiling | None], Mapping[str, str]] = lambda _: {},
    audio: Audio | None = None,
    keep_frames: bool = False,
    check: FrameCheck = lambda *_: None,
    place: Path | None = None,
    planned: tuple[int, Fraction] | None = None,
    accept: Callable[[str, Tiling | None], None] = lambda *_: None,
    wish: FormatWish = _USUAL,
    group: RankGroup | None = None,
) -> Rendered:
    """Decode `latents` (1, C, T, h, w) in VAE space, apply `edit`, and write the video to `out`.

    frames: how many decoded frames to use; None uses all.
    tags:   a function from the tiling to the metadata of the file.
    check:  called with each decoded frame before it is written. If it raises SafetyError, no file remains.
    place:  where the caller will put the file afterwards; None if it stays at `out`.
    planned, wish: as for `write_edited`.
    accept: called with the hash of all frames of the file, and the tiling, before the file gets its name. If
            it raises, no file remains.
    group:  as for `decode`, of which this is rank 0.

    Saves the latents beside that place until the file is complete. Removes them when the user stops the run,
    and keeps them when the run fails; the error then says where. Starts again with smaller tiles when memory
    runs out.

    Raises:
        MediaError, ModelError: as the stages do.
    """
    width, height = frame_size(model, latents.shape)
    count = (latents.shape[2] - 1) * model.family.vae_stride[0] + 1
    count = count if frames is None else min(frames, count)
    watched = _StopRecorder(progress)

    def attempt(tiling: Tiling | None) -> Rendered:
        kept: list[Frame] = []
        frame_hash = FrameHash(lambda sha256: accept(sha256, tiling))
        decoded = decode(model, latents, memory, watched, frames=count, tiling=tiling, group=group)
        facts = write_edited(
            checked_frames(video_frames(decoded), check),
            out,
            edit,
            count=count,
            width=width,
            height=height,
            interpolator=interpolator,
            tags=tags(tiling),
            audio=audio,
            progress=watched,
            kept=kept if keep_frames else None,
            planned=planned,
            frame_hash=frame_hash,
            wish=wish,
        )
        if facts.codec != "webp":  # whose times are whole milliseconds
            verify(probe(out), frames=facts.frames, width=width, height=height, fps=facts.fps)
        return Rendered(tiling, frame_hash.sha256, kept, facts)

    file = LatentFile(latents, edit, count, tags(None))
    with _with_saved_latents(file, place or out, watched):
        if group is not None:
            return attempt(None)
        return with_tile_fallback(attempt, model, latents.shape, memory)


def render_image(
    model: HasVae,
    latents: Tensor,
    out: Path,
    kind: str,
    memory: Memory,
    progress: Progress,
    *,
    tags: Callable[[Tiling | None], Mapping[str, str]] = lambda _: {},
    check: FrameCheck = lambda *_: None,
    place: Path | None = None,
    accept: Callable[[str, Tiling | None], None] = lambda *_: None,
) -> Rendered:
    """Write the first frame of `latents` (1, C, T, h, w) in VAE space to `out`. No partial file remains.

    kind: one of IMAGE_FORMATS. The other arguments, and what happens to the latents, are as for `render`.
    """
    watched = _StopRecorder(progress)

    def attempt(tiling: Tiling | None) -> Rendered:
        progress.begin("image", 1, "frames")
        decoded = decode(model, latents, memory, watched, frames=1, tiling=tiling)
        with closing(checked_frames(video_frames(decoded), check)) as stream:
            frame = next(stream)
        watched.check()
        frame_hash = FrameHash(lambda sha256: accept(sha256, tiling))
        frame_hash.add(frame)
        write_image(out, image_bytes(frame, kind, with_hash(tags(tiling), frame_hash.finish())))
        progress.advance(1)
        return Rendered(tiling, frame_hash.sha256, [frame])

    with _with_saved_latents(LatentFile(latents, tags=tags(None)), place or out, watched):
        return with_tile_fallback(attempt, model, latents.shape, memory)


def with_tile_fallback(
    attempt: Callable[[Tiling | None], _T],
    model: HasVae,
    latent_shape: Sequence[int],
    memory: Memory,
    doing: str = "decoding",
) -> _T:
    """Call `attempt` with the largest tiles that fit, and again with smaller ones when memory runs out.

    latent_shape: (..., T, h, w).
    doing:        what the VAE does, for messages. The tiles are chosen for decoding; encoding needs less.

    Raises ModelError when memory runs out with the smallest tiles too.
    """
    if has_whole_vae(model):
        return attempt(None)  # the host makes its own room, and cuts into tiles when it has too little
    memory = memory.for_part("vae")
    width, height = frame_size(model, latent_shape)
    tiling = vae_tiling(model, "decode", latent_shape, memory)
    while True:
        if tiling is not None:
            log.info("%s %dx%d %s", doing, width, height, tiling_note(tiling))
        try:
            return attempt(tiling)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            smaller = smaller_tiling(tiling, width, height, can_spill=memory.device.type != "cpu")
            if smaller is None:
                raise ModelError(
                    f"out of memory while {doing} {width}x{height}, {tiling_note(tiling)}; "
                    "set precision to bf16, use a smaller size, or use a device with more memory"
                ) from error
        # After the except block the error is gone, and so are the tensors that its traceback held.
        log.warning(
            "out of memory while %s %dx%d, %s; trying again", doing, width, height, tiling_note(tiling)
        )
        memory.release()
        tiling = smaller


def tiling_note(tiling: Tiling | None) -> str:
    """Say how the frames were decoded, for messages and the receipt."""
    return "whole" if tiling is None else f"in tiles of {tiling.size} pixels every {tiling.stride}"


@contextmanager
def _with_saved_latents(file: LatentFile, out: Path, watched: _StopRecorder) -> Iterator[None]:
    kept = _save_latents(file, out)
    try:
        yield
    except BaseException as error:
        if kept is None:
            raise
        if watched.stopped or isinstance(error, SafetyError) or not isinstance(error, Exception):
            discard(kept)
            raise
        resume = (
            f"the latents are kept in {kept}. To make the video from them without sampling again, use "
            "`wan-duet media decode`, or Load Latent and Wan Duet Render Video in ComfyUI."
        )
        if isinstance(error, (MediaError, ModelError)):
            raise type(error)(f"{error}; {resume}") from error
        log.error("%s", resume)
        raise
    if kept is not None:
        discard(kept)


def _save_latents(file: LatentFile, out: Path) -> Path | None:
    """Save the latents beside the video, else in the temporary folder. Returns None when neither works.

    A full disk must not end a run that may still succeed.
    """
    for folder in (out.parent, Path(tempfile.gettempdir())):
        # Do not overwrite latents of an earlier failure: they may be the ones being rendered.
        names = itertools.chain([out.name], (f"{out.name}.{number}" for number in itertools.count(2)))
        paths = (folder / f"{name}.latent" for name in names)
        path = next(path for path in paths if not path.exists())
        try:
            write_latents(path, file)
        except (OSError, SafetensorError) as error:
            log.warning("cannot save the latents to %s: %s", path, error)
        else:
            return path
    return None


class _StopRecorder:
    """Wraps a progress and records whether the user stopped the run, which is not a failure."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.stopped = False

    def begin(self, stage: str, total: int, unit: str) -> None:
        self._progress.begin(stage, total, unit)

    def advance(self, done: int, preview: Callable[[], Tensor] | None = None) -> None:
        self._progress.advance(done, preview)

    def check(self) -> None:
        try:
            self._progress.check()
        except BaseException:
            self.stopped = True
            raise


def checked_frames(frames: FrameStream, check: FrameCheck) -> Generator[Frame, None, None]:
    """Yield `frames` and call `check` on each one first. Closes `frames` at the end."""
    try:
        for index, frame in enumerate(frames):
            check(index, frame)
            yield frame
    finally:
        close(frames)
