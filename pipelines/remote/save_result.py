"""Saves the file of a completed job, with its receipt beside it."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NoReturn
from urllib.parse import urlsplit

from ..errors import JobLostError, JournalError, MediaError, RemoteError
from ..files.on_disk import discard, move_into_place, remove
from ..video.output import sidecar, write_sidecar
from .download import suffix_of_bytes
from .follow import pause
from .job_context import JobContext
from .job_event import OnEvent, job_event
from .job_record import Job, outcome_json
from .provider import Downloaded, RemoteFile
from .remote_receipt import remote_receipt
from .verdict import Absence, left_open

__all__ = ["fetch"]

log = logging.getLogger(__name__)

_SUFFIXES = {
    "video/mp4": ".mp4",
    "video/webm": ".webm",
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
}
_CHUNK = 1 << 20
_TRIES = 10  # the check of another job may make the folder at the same time, and remove it again


async def fetch(job: Job, context: JobContext, on_event: OnEvent, seen: float | None = None) -> Job:
    """Download the file, write the receipt, and close the job as done. A file of the user is never replaced.

    seen: when this process saw the job completed, by `JobClock.elapsed`; None if an earlier one did.

    Raises JobLostError if the provider no longer has to keep the file. All other errors leave the job open.
    An empty file is never left behind.
    """
    for other in job.outcome.files[1:]:
        log.warning("%s gave more than one file; not saved: %s", job.request_id, other.url.partition("?")[0])
    place = _place(job, context)
    context.at("place reserved")
    try:
        whole = await asyncio.to_thread(_whole, place)
        if whole is None:
            async with context.transfers:
                whole = await _download(job, context, place, on_event, seen)
        context.at("downloaded")
        whole = _with_its_suffix(whole, job, context)
        write_sidecar(whole.path, remote_receipt(context.journal.job(job.job_id)))
    except BaseException:
        _give_back(place, job, context)
        raise
    context.at("receipt written")
    job = context.journal.move(
        job.job_id, context.owner, "done", size_bytes=whole.size_bytes, sha256=whole.sha256
    )
    context.at("done written")
    log.info("saved %s", whole.path)
    return job


async def _download(
    job: Job, context: JobContext, place: Path, on_event: OnEvent, seen: float | None
) -> Downloaded:
    """Download the file. If it is not there, poll for a while, each time at the address given then."""

    def progress(done: int, total: int | None) -> None:
        context.at("downloading")
        on_event(job_event(job, "downloading", context.clock.now(), bytes_done=done, bytes_total=total))

    absence, seconds = Absence(context, seen), context.poll_times.first
    while True:
        try:
            return await context.provider.download(
                job.outcome.files[0], place, progress=progress, check=_never
            )
        except JobLostError as error:
            # A stop comes too late for what is finished: it must not shorten the looks.
            verdict = absence.verdict(replace(job, stop_asked=False), error)
            if verdict == "leave open":
                raise left_open(job, error) from None
            if verdict == "lost":
                return _lost(job, error, context)
        await pause(seconds, job, context)
        seconds = min(seconds * context.poll_times.growth, context.poll_times.longest)
        job = await _asked_anew(job, context)


async def _asked_anew(job: Job, context: JobContext) -> Job:
    """With the addresses that the provider gives now; with those it gave where it does not answer."""
    try:
        outcome = await context.provider.result(job.submitted)
    except RemoteError as error:
        log.info("%s", error)
        return job
    if not outcome.files or outcome.files == job.outcome.files:
        return job
    return context.journal.note(job.job_id, context.owner, outcome_json=outcome_json(outcome))


def _lost(job: Job, error: RemoteError, context: JobContext) -> NoReturn:
    text = (
        f"{error.message}, and {job.provider} need not keep it any longer. `wan-duet jobs show "
        f"{job.job_id[:8]}` has its whole address; `wan-duet jobs attach {job.job_id[:8]}` asks once more"
    )
    context.journal.move(job.job_id, context.owner, "lost", error=text).delivered()
    raise AssertionError("a lost job is not delivered")


def _never() -> None:
    """Never stop a download: the file is paid for."""


def _place(job: Job, context: JobContext) -> Path:
    """Reserve a file name for the job, in the journal and as an empty file on disk."""
    wished = Path(job.out_path)
    if job.file_path is not None:
        place = Path(job.file_path)
        if place.parent == wished.parent or _whole(place) is not None:
            return place
        discard(place)  # the user wants it elsewhere by now
    return _reserved(wished.with_suffix(_suffix_told(job.outcome.files[0], wished)), job, context)


def _reserved(wished: Path, job: Job, context: JobContext) -> Path:
    """`wished`, or a name like it that nobody has. Raises MediaError when it cannot be made."""
    names = [
        wished.with_name(f"{wished.stem}{ending}{wished.suffix}")
        for ending in ("", f"-{job.job_id[:8]}", f"-{job.job_id}")
    ]
    try:
        for place in names:
            if _taken(place):
                continue
            if context.journal.reserve(job.job_id, context.owner, place):
                return place
            remove(place)  # another job has the name, though no file yet
    except OSError as error:
        raise MediaError(
            f"{wished}: cannot be written: {error.strerror or error}. The job is paid for ({job.price_text}) "
            f"and stays open; `wan-duet jobs attach {job.job_id[:8]} -o OUT` saves it elsewhere"
        ) from error
    raise MediaError(f"{wished}: this name is taken, and so are others like it; move those files")


def _give_back(place: Path, job: Job, context: JobContext) -> None:
    """An empty file under the wished name goes away; what was downloaded of it waits in its part."""
    with suppress(OSError):
        if place.stat().st_size:
            return
    discard(place)
    with suppress(JournalError):  # the error that led here says more
        if context.journal.job(job.job_id).is_open:
            context.journal.note(job.job_id, context.owner, file_path=None)


def _with_its_suffix(whole: Downloaded, job: Job, context: JobContext) -> Downloaded:
    """Under the suffix of what the bytes are, whatever the provider called them."""
    suffix = suffix_of_bytes(whole.path)
    if suffix in (None, whole.path.suffix):
        return whole
    old, place = whole.path, _reserved(whole.path.with_suffix(suffix), job, context)
    move_into_place(old, place)
    return replace(whole, path=place)


def _taken(place: Path) -> bool:
    """Return whether the file or its receipt exists. If not, create an empty file."""
    if sidecar(place).exists():
        return True
    for tries_left in reversed(range(_TRIES)):
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch(exist_ok=False)
            break
        except (FileExistsError, FileNotFoundError):
            if place.exists():
                return True
            if not tries_left:
                raise
    return False


def _suffix_told(file: RemoteFile, wished: Path) -> str:
    if file.content_type in _SUFFIXES:
        return _SUFFIXES[file.content_type]
    named = PurePosixPath(urlsplit(file.url).path).suffix.lower()
    return named if named in _SUFFIXES.values() else wished.suffix or ".mp4"


def _whole(place: Path) -> Downloaded | None:
    """Return the file if it was complete before the process ended.

    A download writes it completely or not at all.
    """
    if not place.is_file() or not place.stat().st_size:
        return None
    digest = hashlib.sha256()
    with place.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return Downloaded(place, place.stat().st_size, digest.hexdigest())
