"""Buys a video of several shots at a provider: one job after another, joined here to one file.

Each shot is an order of its own in the journal. After a stop the same request finds the jobs that were bought
and goes on with the first shot that was not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import MediaError
from ..progress import Progress
from ..request.base import WanRequest
from ..request.lora_weight import bare_path
from ..request.parse import parse
from ..request.shots import FilmShot, shots_of
from ..video.encode_video import encode_video
from ..video.film_folder import FilmFolder
from ..video.film_receipt import film_receipt, joined_record
from ..video.frame_hash import FRAMES_SHA256, FrameHash
from ..video.frame_stream import Frame, FrameStream
from ..video.joined import Drift, joined
from ..video.output import reserved_output, write_sidecar
from ..video.probe import VideoFacts, probe
from ..video.read import read_frames
from .job_record import Job
from .remote_receipt import remote_receipt
from .stored_form import stored_form

__all__ = ["Buy", "buy_film"]

Buy = Callable[[WanRequest, Path], Job]
"""Buys one shot, or finds it bought. Returns when its file is there."""


@dataclass(frozen=True)
class _Bought:
    job: Job
    file: Path
    facts: VideoFacts


def buy_film(request: WanRequest, runner: str, out: Path, buy: Buy, progress: Progress) -> dict[str, Any]:
    """Buy the shots of `request`, write them to `out` as one video, and return its receipt.

    All shots must be of one size and frame rate. The files of the shots are kept until the video is complete.
    Raises what `buy` raises, and MediaError when the shots do not fit together.
    """
    folder = FilmFolder.beside(out)
    request = folder.seeded(request, runner)
    shots = shots_of(request)
    bought: list[_Bought] = []
    with reserved_output(out) as staged:
        for shot in shots:
            bought.append(_bought(shot, bought, folder, buy))
            _require_alike(bought)
        first = bought[0].facts
        drift, frame_hash = Drift(request.match_colours == "on"), FrameHash()  # type: ignore[attr-defined]
        count = sum(one.facts.frames - shot.join.doubled for one, shot in zip(bought, shots, strict=True))
        values = dict(shots[0].request)
        encode_video(
            joined([shot.join for shot in shots], partial(_frames, bought), drift),
            staged,
            width=first.width,
            height=first.height,
            fps=first.fps,
            frame_count=count,
            quality=values["video_quality"],
            write_mode=values["video_write_mode"],
            progress=progress,
            frame_hash=frame_hash,
        )
        receipt = {
            **film_receipt(runner, _to_share(request), shots, count),
            **joined_record([remote_receipt(one.job) for one in bought], drift),
            FRAMES_SHA256: frame_hash.sha256,
        }
        write_sidecar(staged, receipt)
    folder.discard()
    return receipt


def _bought(shot: FilmShot, before: list[_Bought], folder: FilmFolder, buy: Buy) -> _Bought:
    request = shot.request
    if shot.join.given:
        image = folder.first_image(shot.number, _last_frame(before[-1].file))
        request = parse(request.kind, {**request.document(), "image_url": str(image)})
    job = buy(request, folder.path / f"shot-{shot.number + 1}.mp4")
    if job.file is None:
        raise MediaError(f"the file of job {job.job_id[:8]} is gone; `wan-duet jobs attach` fetches it again")
    return _Bought(job, job.file, probe(job.file))


def _require_alike(bought: list[_Bought]) -> None:
    first, last = bought[0].facts, bought[-1].facts
    if (first.width, first.height, first.fps) != (last.width, last.height, last.fps):
        raise MediaError(
            f"shot {len(bought)} is {last.width}x{last.height} at {float(last.fps):g} frames a second, the "
            f"first {first.width}x{first.height} at {float(first.fps):g}; the shots are in "
            f"{bought[-1].file.parent}"
        )


def _last_frame(file: Path) -> Frame:
    last: deque[Frame] = deque(read_frames(file), maxlen=1)
    if not last:
        raise MediaError(f"{file} has no frame")
    return last[0]


def _frames(bought: list[_Bought], number: int, _: Sequence[Frame]) -> FrameStream:
    return read_frames(bought[number].file)


def _to_share(request: WanRequest) -> dict[str, Any]:
    """Return the request for a receipt: files without their folders, addresses without their queries."""
    document = request.document()
    files = ("image_url", "end_image_url")
    shots = [
        {name: bare_path(value) if name in files else value for name, value in shot.items()}
        for shot in document.get("shots", ())
    ]
    shared: dict[str, Any] = stored_form({**document, "shots": shots})
    return shared
