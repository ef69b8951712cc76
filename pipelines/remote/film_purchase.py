"""Buys a video of several shots at a provider: one job after another, joined here to one file.

Each shot is an order of its own in the journal. After a stop the same request finds the jobs that were bought
and goes on with the first shot that was not.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from filelock import FileLock, Timeout

from ..errors import MediaError
from ..files.on_disk import write_whole
from ..progress import Progress
from ..request.base import WanRequest
from ..request.lora_weight import bare_path
from ..request.parse import parse
from ..request.seeds import seed_of
from ..request.shots import FilmShot, inputs_of_shot
from ..video.colour_drift import Drift
from ..video.encode_video import encode_video
from ..video.film_folder import FilmFolder
from ..video.film_receipt import SHOTS_SHA256, film_receipt, joined_record
from ..video.frame_hash import FRAMES_SHA256, PENDING, FrameHash, write_hash
from ..video.frame_stream import Frame, FrameStream
from ..video.joined import joined
from ..video.local_file import file_at
from ..video.output import FILE_ENTRY, reserved_output, sidecar, write_sidecar
from ..video.probe import VideoFacts, probe
from ..video.read import read_frames
from ..video.tags import RECEIPT
from .film_order import FilmOrder
from .job_record import Job, Order
from .journal import Spent
from .payload import Prepared
from .remote_receipt import remote_receipt
from .spending_limits import SpendingLimits, require_within
from .stored_form import stored_form

__all__ = ["BoughtFilm", "Buy", "buy_film"]

Buy = Callable[[int, Order, Prepared], Job]
"""Buys a shot, given its number, or finds it bought. Returns when its file is there."""

_FINISHED = "finished.json"  # in the folder of a video: where it is
_LOCK_S = 0.2  # how often the wait for another run looks for a stop


@dataclass(frozen=True)
class BoughtFilm:
    """A finished video. new: whether it was made now."""

    path: Path
    receipt: Mapping[str, Any]
    new: bool


@dataclass(frozen=True)
class _Bought:
    job: Job
    file: Path
    facts: VideoFacts


def buy_film(
    order: FilmOrder,
    out: Path,
    buy: Buy,
    limits: SpendingLimits,
    progress: Progress,
    *,
    tags: Mapping[str, str] = MappingProxyType({}),
    embed_receipt: bool = True,
    reuse: bool = True,
) -> BoughtFilm:
    """Buy the shots of an order, and write them to `out` as one video with its receipt beside it.

    Of several runs of the same order one buys, and the others wait for it. The files of the shots are kept
    until the video is complete. All shots must be of one size and frame rate.

    limits: of which that of a run is held against the price of the whole.
    reuse:  return a finished video of the same order, if its file is still there.

    Raises SpendingError before anything is bought, what `buy` raises, and MediaError when the shots do not
    fit together.
    """
    with _alone(order.folder, progress.check):
        finished = _finished(order.folder) if reuse else None
        if finished is not None:
            return finished
        whole = SpendingLimits(per_run_usd=limits.per_run_usd)
        require_within(whole, order.report.price, Spent(0.0, 0), order.terms.runner)
        receipt = _made(order, out, buy, progress, tags, embed_receipt=embed_receipt)
        order.folder.discard()
        if order.repeats:
            _note_finished(order.folder, out)
    return BoughtFilm(out, receipt, new=True)


@contextmanager
def _alone(folder: FilmFolder, check: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of a video. check: raises when the user stops the wait for it."""
    folder.path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.path.with_suffix(".lock"))
    while not lock.is_locked:
        check()
        with suppress(Timeout):
            lock.acquire(timeout=_LOCK_S)
    try:
        yield
    finally:
        lock.release()


def _finished(folder: FilmFolder) -> BoughtFilm | None:
    try:
        noted = json.loads((folder.path / _FINISHED).read_text(encoding="utf-8"))
        video = Path(noted["video"])
        receipt = json.loads(sidecar(video).read_text(encoding="utf-8"))
        if video.stat().st_size != receipt.pop(FILE_ENTRY)["size_bytes"]:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return BoughtFilm(video, receipt, new=False)


def _note_finished(folder: FilmFolder, video: Path) -> None:
    folder.path.mkdir(parents=True, exist_ok=True)
    write_whole(folder.path / _FINISHED, json.dumps({"video": str(video.absolute())}))


def _made(
    order: FilmOrder,
    out: Path,
    buy: Buy,
    progress: Progress,
    tags: Mapping[str, str],
    *,
    embed_receipt: bool,
) -> dict[str, Any]:
    """Buy and join the shots. Return the receipt."""
    request, shots = order.request, order.shots
    bought: list[_Bought] = []
    with reserved_output(out) as staged:
        for shot in shots:
            bought.append(_bought(shot, bought, order, buy))
            _require_alike(bought)
        _require_frames(bought, shots)
        first = bought[0].facts
        drift, frame_hash = Drift(request.match_colours == "on"), FrameHash()  # type: ignore[attr-defined]
        count = sum(one.facts.frames - shot.join.doubled for one, shot in zip(bought, shots, strict=True))
        values = dict(shots[0].request)
        receipts = [remote_receipt(one.job) for one in bought]
        receipt = {
            **film_receipt(order.terms.runner, _to_share(request), shots, count),
            "seed": seed_of(request),
            "price": {"estimate": order.report.price.text(), "estimate_usd": order.report.price.usd},
            "findings": stored_form([finding.to_share() for finding in order.report.told]),
        }
        known = {**receipt, "shots": receipts, FRAMES_SHA256: PENDING, SHOTS_SHA256: PENDING}
        inside = {RECEIPT: json.dumps(known)}
        encode_video(
            joined([shot.join for shot in shots], partial(_frames, bought), drift),
            staged,
            width=first.width,
            height=first.height,
            fps=first.fps,
            frame_count=count,
            quality=values["video_quality"],
            write_mode=values["video_write_mode"],
            tags={**tags, **inside} if embed_receipt else tags,
            progress=progress,
            frame_hash=frame_hash,
        )
        receipt |= {**joined_record(receipts, drift), FRAMES_SHA256: frame_hash.sha256}
        write_hash(staged, receipt[SHOTS_SHA256], SHOTS_SHA256)
        write_sidecar(staged, receipt)
    return receipt


def _bought(shot: FilmShot, before: list[_Bought], order: FilmOrder, buy: Buy) -> _Bought:
    request, media = shot.request, inputs_of_shot(shot.number, order.media)
    if shot.join.given:
        image = order.folder.first_image(shot.number, _last_frame(before[-1].file))
        media["image_url"] = image
        named = f"sha256:{file_at(image, 'image_url').sha256}"
        request = parse(request.kind, {**request.document(), "image_url": named})
    one, prepared = order.terms.order(request, order.folder.path / f"shot-{shot.number + 1}.mp4", media)
    job = buy(shot.number, one, prepared)
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


def _require_frames(bought: Sequence[_Bought], shots: Sequence[FilmShot]) -> None:
    """Raise MediaError when a shot has fewer frames than its joins take: a provider may choose the length."""
    following = [*(shot.join.mixed for shot in shots[1:]), 0]
    for shot, one, taken in zip(shots, bought, following, strict=True):
        if one.facts.frames <= shot.join.doubled + taken:
            raise MediaError(
                f"shot {shot.number + 1} has {one.facts.frames} frames, and its joins take "
                f"{shot.join.doubled + taken}; the shots are in {one.file.parent}. Give a shorter dissolve: "
                "the same shots are not bought again"
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
    shots = [_bare(shot) for shot in document.get("shots", ())]
    shared: dict[str, Any] = stored_form({**_bare(document), **({"shots": shots} if shots else {})})
    return shared


def _bare(values: Mapping[str, Any]) -> dict[str, Any]:
    named = {name: bare_path(values[name]) for name in ("image_url", "end_image_url") if name in values}
    loras = [{**lora, "path": bare_path(lora["path"])} for lora in values.get("loras") or ()]
    return {**values, **named, **({"loras": loras} if loras else {})}
