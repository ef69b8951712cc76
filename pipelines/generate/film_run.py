"""Runs a request for one video of several shots on this machine.

Each shot is sampled when the video gets to it, and its latents are kept beside the video until the file is
there. After a stop or a crash, the same request goes on with the first shot that is not kept.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import RequestError, SamplingError
from ..interpolation.interpolator_files import interpolator_record
from ..loading.host_model import HostModel
from ..plan.plan import Plan
from ..progress import OnlyChecks, Progress
from ..request.base import WanRequest
from ..request.check_film import each_once, of_all, sized
from ..request.media_facts import MediaFacts
from ..request.overlap_latents import hands_latents, overlap_findings
from ..request.report import TOLD, Finding, problems_of, silent
from ..request.seeds import seed_of
from ..request.shots import FilmShot, in_shot, inputs_of_shot, shots_of
from ..video.colour_drift import Drift
from ..video.edit import write_edited
from ..video.film_folder import FilmFolder
from ..video.film_receipt import SHOTS_SHA256, film_receipt, joined_record
from ..video.frame_hash import FRAMES_SHA256, PENDING, FrameHash, write_hash
from ..video.frame_stream import Frame, FrameStream, close
from ..video.frames import video_frames
from ..video.joined import joined
from ..video.local_file import FindFile, any_file
from ..video.output import reserved_output, write_sidecar
from ..video.probe import probe, verify
from ..video.tags import RECEIPT
from .checked_run import Checked, checked
from .decided_run import decide
from .executed_run import receipt_of
from .film_anchor import FilmAnchor
from .kept_latents import KeptLatents, Sampled
from .local_receipt import Recorded, fit_to_share, latents_hash, require_same_files
from .media_inputs import MediaInputs
from .planned_video import edit_of_plan, interpolator_of_plan, wish_of_plan
from .prepared_run import Run
from .recorded_film import RecordedFilm
from .render import checked_frames
from .result import Result, StageTimer
from .safety import result_check
from .sampled_latents import sample_latents
from .sampling_key import sampling_key
from .shot_decoding import decode_shot, ending_of

if TYPE_CHECKING:
    from .local_worker import LocalWorker

__all__ = ["check_shots", "run_film"]

log = logging.getLogger(__name__)

_NO_LIMIT = 2**60  # the latents of a video are needed until it is there


@dataclass(frozen=True)
class _Inputs:
    """Where the images of shots are. expected: the receipt of the video that is made again, if any."""

    media: Mapping[str, Path]
    find: FindFile
    expected: RecordedFilm | None = None

    def recorded(self, number: int) -> Recorded | None:
        return None if self.expected is None else self.expected.shots[number]


@dataclass
class _Film:
    """A video in the making.

    ready:    the shots, checked and planned before anything is loaded.
    told:     what was found in the request then.
    folder:   where latents and first images are kept until the file is there.
    receipts: of the shots that are sampled so far.
    anchor:   what shots hand over in place of frames, with `overlap_latents`.
    ending:   the last latent frames of the last shot that was sampled.
    """

    request: WanRequest
    worker: LocalWorker
    shots: Sequence[FilmShot]
    ready: Sequence[Checked]
    told: Sequence[Finding]
    out: Path
    folder: FilmFolder
    inputs: _Inputs
    timer: StageTimer
    receipts: list[dict[str, Any]] = field(default_factory=list)
    anchor: FilmAnchor | None = None
    ending: Tensor | None = None

    @property
    def plan(self) -> Plan:
        """The plan of the first shot, which has the size, the rate and the encoding of all."""
        return self.ready[0].plan

    @property
    def frames(self) -> int:
        """How many frames the shots have together, before interpolation."""
        return sum(shot.frames for shot in self.shots)


def check_shots(request: WanRequest, worker: LocalWorker) -> list[Checked]:
    """Check and plan every shot of a request, as `checked` does one. Loads no weights.

    Raises RequestError when a shot cannot run, or would be of another frame rate than the first.
    """
    shots = _shots(request, worker)
    _on_overlap(request, shots, worker)
    return _checked_shots(shots, worker, _Inputs({}, any_file))


def run_film(
    request: WanRequest,
    worker: LocalWorker,
    out: Path | Callable[[Plan], Path],
    *,
    media: Mapping[str, Path] = MappingProxyType({}),
    find: FindFile = any_file,
    return_images: bool = False,
    tags: Mapping[str, str] = MappingProxyType({}),
    embed_receipt: bool = True,
    expected: RecordedFilm | None = None,
) -> Result:
    """Generate the shots of `request`, and write them to `out` as one video with its receipt beside it.

    Says all findings that are known before anything is loaded. Raises what `local_run.run` raises. The shots
    that were finished until then are kept, and the same request goes on after them.

    out:   the file, or a function that returns it for the plan of the first shot.
    media: {field, as in "shots[1].image_url": the file that was written for a connected input}.
    expected: the receipt of the video that is made again. Raises ModelError for other weights, SamplingError
           when the latents of a shot, or the frames, are others.
    The other options are those of `local_run.run`.
    """
    shots = _shots(request, worker)
    inputs = _Inputs(media, find, expected)
    if expected is not None:
        expected.require_shots(shots)
    ready = _checked_shots(shots, worker, inputs)
    out = out if isinstance(out, Path) else out(ready[0].plan)
    findings = [
        *each_once(of_all(shots, [each.report for each in ready])),
        *_on_overlap(request, shots, worker),
    ]
    told = [finding for finding in findings if finding.status in TOLD]
    worker.tell(told)
    for number, each in enumerate(ready):
        _decided(worker, each, out, inputs.recorded(number))
    folder = FilmFolder.beside(out)
    request = folder.seeded(request, "local")
    timer = StageTimer.of([worker.memory.device])
    film = _Film(request, worker, _shots(request, worker), ready, told, out, folder, inputs, timer)
    film.anchor = FilmAnchor() if hands_latents(request) else None
    try:
        result = _made(film, tags, embed_receipt=embed_receipt, return_images=return_images)
    except BaseException:
        if folder.path.exists():
            log.warning("finished shots are kept in %s: the same command goes on after them", folder.path)
        raise
    folder.discard()
    return result


def _shots(request: WanRequest, worker: LocalWorker) -> list[FilmShot]:
    families = [model.family for model in (worker.model, worker.image_model) if model is not None]
    return shots_of(request, frozenset().union(*(one.tasks for one in families)), families[0].default_fps)


def _on_overlap(request: WanRequest, shots: Sequence[FilmShot], worker: LocalWorker) -> list[Finding]:
    """Return the warnings about `overlap_latents`. Raises RequestError where these shots cannot have it."""
    model = worker.image_model or worker.model
    if hands_latents(request) and isinstance(model, HostModel):
        fix = "load the model with Wan Duet Load Model, or leave it out"
        raise RequestError.of("overlap_latents", "a MODEL of ComfyUI", fix)
    findings = list(overlap_findings(request, shots, "local", model.family))
    if problems := problems_of(findings):
        raise RequestError(problems)
    return findings


def _checked_shots(shots: Sequence[FilmShot], worker: LocalWorker, files: _Inputs) -> list[Checked]:
    ready: list[Checked] = []
    for shot in shots:
        size = (ready[0].plan.width, ready[0].plan.height) if ready else None
        inputs = MediaInputs(facts=MediaFacts(size=size)) if shot.join.given else None
        ready.append(_checked(shot, size, worker, files, inputs))
        _require_same_rate(shot, ready)
    return ready


def _checked(
    shot: FilmShot,
    size: tuple[int, int] | None,
    worker: LocalWorker,
    files: _Inputs,
    inputs: MediaInputs | None = None,
) -> Checked:
    """Check a shot, in the size of the first one. inputs: those of a shot whose files are not there yet."""
    try:
        made = checked(
            sized(shot.request, size),
            worker.model if worker.image_model is None or not shot.from_image else worker.image_model,
            interpolators=worker.interpolators,
            lora_sources=worker.lora_sources,
            progress=worker.progress,
            acceleration=worker.acceleration,
            allow_partial_loras=worker.allow_partial_loras,
            media=inputs_of_shot(shot.number, files.media),
            find=files.find,
            inputs=inputs,
        )
    except RequestError as error:
        raise in_shot(shot.number, error) from error
    recorded = files.recorded(shot.number)
    if recorded is None:
        return made
    require_same_files(recorded, made.model)
    return replace(made, plan=recorded.plan)


def _require_same_rate(shot: FilmShot, ready: Sequence[Checked]) -> None:
    first, last = ready[0].plan.fps, ready[-1].plan.fps
    if last != first:
        found = f"shot {shot.number + 1} has {last} a second, the first {first}"
        raise RequestError.of("frames_per_second", found, "state it for the whole")


def _decided(worker: LocalWorker, ready: Checked, out: Path, recorded: Recorded | None = None) -> Run:
    return decide(
        ready.report.require().request,
        ready,
        worker.memory,
        worker.progress,
        out,
        prompt=None if recorded is None else recorded.prompt,
        interpolators=worker.interpolators,
        check_memory=worker.check_memory,
        tell=silent,
    )


def _made(film: _Film, tags: Mapping[str, str], *, embed_receipt: bool, return_images: bool) -> Result:
    """Write the video and its receipt. The receipt inside the file says nothing of shots to come."""
    plan, worker = film.plan, film.worker
    kept: list[Frame] = []
    drift = Drift(film.request.match_colours == "on")  # type: ignore[attr-defined]
    expected = film.inputs.expected
    frame_hash = FrameHash() if expected is None else FrameHash(expected.require_frames)
    receipt = {RECEIPT: json.dumps({**_receipt(film), FRAMES_SHA256: PENDING, SHOTS_SHA256: PENDING})}
    with reserved_output(film.out) as staged:
        with film.timer.stage("video"):
            facts = write_edited(
                joined([shot.join for shot in film.shots], partial(_shot_frames, film), drift),
                staged,
                edit_of_plan(plan),
                count=film.frames,
                width=plan.width,
                height=plan.height,
                interpolator=interpolator_of_plan(plan, worker.interpolators, worker.memory),
                tags={**tags, **receipt} if embed_receipt else dict(tags),
                progress=OnlyChecks(worker.progress),
                kept=kept if return_images else None,
                frame_hash=frame_hash,
                wish=wish_of_plan(plan),
            )
        verify(probe(staged), frames=facts.frames, width=plan.width, height=plan.height, fps=facts.fps)
        whole = _receipt(film) | {
            **joined_record(film.receipts, drift),
            FRAMES_SHA256: frame_hash.sha256,
            **film.timer.record(),
        }
        write_hash(staged, whole[SHOTS_SHA256], SHOTS_SHA256)
        write_sidecar(staged, whole)
    images = torch.from_numpy(np.stack(kept)).float() / 255 if kept else None
    prompt = " | ".join(str(one["prompt"]) for one in film.receipts)
    return Result(film.out, int(film.receipts[0]["seed"]), prompt, whole, images)


def _receipt(film: _Film) -> dict[str, Any]:
    made = film_receipt("local", _to_share(film), film.shots, film.frames)
    plan, worker = film.plan, film.worker
    if plan.num_interpolated_frames:
        made["interpolator"] = interpolator_record(plan.interpolator, worker.interpolators, worker.memory)
    return {**made, "findings": [finding.to_share() for finding in film.told], "seed": seed_of(film.request)}


def _to_share(film: _Film) -> dict[str, Any]:
    """Return the request for a receipt: files without their folders."""
    whole = fit_to_share(film.request.document(), MediaInputs())
    shots = [
        fit_to_share(shot, ready.inputs)
        for shot, ready in zip(whole.get("shots", ()), film.ready, strict=False)
    ]
    return {**whole, "shots": shots} if shots else whole


def _shot_frames(film: _Film, number: int, before: Sequence[Frame]) -> FrameStream:
    """Sample a shot, unless its latents are kept, and decode it.

    before: the last frames of the shot before, with which it begins.
    """
    shot, worker, recorded = film.shots[number], film.worker, film.inputs.recorded(number)
    log.info("shot %d of %d", number + 1, len(film.shots))
    anchor = film.anchor
    first = before if anchor is None else anchor.first_image(shot, before)
    run = _decided(worker, _checked_here(film, shot, first), film.out, recorded)
    run = replace(run, lead=tuple(before[1:])) if anchor is None else anchor.given_to(shot, run)
    sampled = _sampled(film, run)
    fingerprint = latents_hash(sampled.latents)
    if recorded is not None:
        with _about_shot(number):
            recorded.require_latents(fingerprint, sampled.steps)
    film.receipts.append(receipt_of(run, sampled, fingerprint))
    anchored = anchor is not None and shot.join.kind == "overlap"  # begins with another frame
    goes_on = shot.join.given > 0 and not anchored
    decoded = decode_shot(run, sampled.latents, film.ending if goes_on else None, shot.join.given)
    film.ending = ending_of(run, sampled.latents)
    shown = _with_progress(video_frames(decoded), run.plan.frames_delivered, run.progress)
    if anchor is not None:
        anchor.latents = sampled.latents
        shown = anchor.noting(shot, run, shown)
    return checked_frames(shown, result_check(run.checker, run.request))


@contextmanager
def _about_shot(number: int) -> Iterator[None]:
    try:
        yield
    except SamplingError as error:
        raise SamplingError(f"shot {number + 1}: {error}") from error


def _with_progress(frames: FrameStream, count: int, progress: Progress) -> FrameStream:
    progress.begin("decoding", count, "frames")
    try:
        for number, frame in enumerate(frames, 1):
            progress.advance(number)
            yield frame
    finally:
        close(frames)


def _checked_here(film: _Film, shot: FilmShot, first: Sequence[Frame]) -> Checked:
    """Check a shot when its inputs are there. first: empty, or the image that it is given comes first."""
    files = film.inputs
    if first:
        image = film.folder.first_image(shot.number, first[0])
        media = {**files.media, f"shots[{shot.number}].image_url": image}
        files = replace(files, media=media)
    size = (film.plan.width, film.plan.height) if shot.number else None
    return _checked(shot, size, film.worker, files)


def _sampled(film: _Film, run: Run) -> Sampled:
    kept, key = KeptLatents(film.folder.path, _NO_LIMIT), sampling_key(run)
    known = None if key is None else kept.find(key)
    if known is not None:
        log.info("the latents of this shot are those of the run before")
        return known
    sampled = sample_latents(run, film.timer)
    if key is not None:
        kept.keep(key, sampled)
    return sampled
