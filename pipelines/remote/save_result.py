"""Saves the file of a completed job, with its receipt beside it."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from ..errors import JobFailedError, JobLostError, MediaError
from ..files.on_disk import discard, remove
from ..video.output import sidecar, write_sidecar
from .job_context import JobContext
from .job_event import OnEvent, job_event
from .job_record import Job, outcome_json
from .provider import Downloaded, RemoteFile
from .remote_receipt import remote_receipt

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


async def fetch(job: Job, context: JobContext, on_event: OnEvent) -> Job:
    """Download the file, write the receipt, and close the job as done. A file of the user is never replaced.

    Raises RemoteError. Unless it is JobLostError, the job stays open and may be fetched again.
    """
    file = job.outcome.files[0]
    for other in job.outcome.files[1:]:
        log.warning("%s gave more than one file; not saved: %s", job.request_id, other.url.partition("?")[0])
    place = _place(job, context, file)
    context.at("place reserved")
    whole = await asyncio.to_thread(_whole, place)
    if whole is None:
        async with context.transfers:
            whole = await _download(job, context, place, on_event)
    context.at("downloaded")
    write_sidecar(place, remote_receipt(job))
    context.at("receipt written")
    job = context.journal.move(
        job.job_id, context.owner, "done", size_bytes=whole.size_bytes, sha256=whole.sha256
    )
    context.at("done written")
    log.info("saved %s", place)
    return job


async def _download(job: Job, context: JobContext, place: Path, on_event: OnEvent) -> Downloaded:
    """Download the file.

    If its address is no longer valid, ask for a new one once: a provider may sign it again.
    """

    def progress(done: int, total: int | None) -> None:
        context.at("downloading")
        on_event(job_event(job, "downloading", context.clock.now(), bytes_done=done, bytes_total=total))

    file = job.outcome.files[0]
    try:
        return await context.provider.download(file, place, progress=progress, check=_never)
    except JobLostError as error:
        gone = error
    try:
        outcome = await context.provider.result(job.submitted)
        if not outcome.files or outcome.files[0].url == file.url:
            raise gone
        context.journal.note(job.job_id, context.owner, outcome_json=outcome_json(outcome))
        return await context.provider.download(outcome.files[0], place, progress=progress, check=_never)
    except (JobFailedError, JobLostError) as error:
        context.journal.move(job.job_id, context.owner, "lost", error=error.message)
        discard(place)
        raise


def _never() -> None:
    """Never stop a download: the file is paid for."""


def _place(job: Job, context: JobContext, file: RemoteFile) -> Path:
    """Reserve a file name for the job, in the journal and as an empty file on disk."""
    if job.file_path is not None:
        return Path(job.file_path)
    wished = Path(job.out_path).with_suffix(_suffix(file, Path(job.out_path)))
    wished.parent.mkdir(parents=True, exist_ok=True)
    for ending in ("", f"-{job.job_id[:8]}", f"-{job.job_id}"):
        place = wished.with_name(f"{wished.stem}{ending}{wished.suffix}")
        if _taken(place):
            continue
        if context.journal.reserve(job.job_id, context.owner, place):
            return place
        remove(place)  # another job has the name, though no file yet
    raise MediaError(f"{wished}: this name is taken, and so are others like it; move those files")


def _taken(place: Path) -> bool:
    """Return whether the file or its receipt exists. If not, create an empty file."""
    if sidecar(place).exists():
        return True
    try:
        place.touch(exist_ok=False)
    except FileExistsError:
        return True
    return False


def _suffix(file: RemoteFile, wished: Path) -> str:
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
