"""Says of a finished file whether it is what its receipt says.

Two ways: quick, by what file and receipt say of each other, and by running the request of the receipt again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from ..errors import ModelError, RequestError, WanDuetError
from ..sampling.step_fingerprints import STEP_FINGERPRINTS, first_difference
from ..video.film_receipt import SHOTS_SHA256, shots_hash
from ..video.output import FILE_ENTRY, file_entry, sidecar
from ..video.probe import probe
from ..video.tags import RECEIPT
from .cpu_settings import threads_of
from .film_verification import compared_film
from .local_receipt import Recorded, read_content, recorded_in
from .local_worker import LocalWorker
from .receipt_comparison import Verification, by_size, different_entries, is_video, lowest_psnr
from .recorded_film import RecordedFilm, film_in, is_film_receipt
from .recorded_inputs import recorded_inputs
from .result import Result
from .speech_run import POSE_VIDEO, SPEECH

__all__ = ["Verification", "verify_by_running", "verify_quickly"]

_NOT_OF_THE_RESULT = {"timings_s", "energy_j", FILE_ENTRY, "latents_reused"}
# Of speech: the receipt inside is written before the latents are there.
_KNOWN_LATE = {"latents_sha256", STEP_FINGERPRINTS}
_OF_SHOTS = {"shots", "colour_drift"}  # of which the receipt inside has at least the hash


def verify_quickly(file: Path, receipt: Path | None = None) -> Verification:
    """Compare a video or image with its receipts, inside it and beside it, without running anything.

    receipt: the file of the receipt, if it is not the one beside `file`.

    Raises MediaError when `file` cannot be read, RequestError when a receipt cannot.
    """
    return _looked_at(file, _receipt_beside(file, receipt))


def verify_by_running(
    file: Path,
    worker_for: Callable[[Recorded], LocalWorker],
    receipt: Path | None = None,
    *,
    worker_for_shots: Callable[[RecordedFilm], LocalWorker],
) -> Verification:
    """Run the request of the receipt again, and compare receipt and frames with those of `file`.

    worker_for: returns what runs it, with the model and the choices of the receipt. worker_for_shots: the
                same for a video of several shots.
    receipt:    as for `verify_quickly`.

    A quick look goes first. Raises as `verify_quickly`, and what the user's stop raises.
    """
    beside = _receipt_beside(file, receipt)
    quick = _looked_at(file, beside)
    if quick.verdict == "different" or beside is None:
        return quick
    try:
        place = receipt or sidecar(file)
        content = read_content(place)
        with TemporaryDirectory() as folder:
            out = Path(folder) / file.name
            if is_film_receipt(content):
                film = film_in(content, place)
                return compared_film(file, _film_again(film, worker_for_shots, out), beside, film)
            recorded = recorded_in(content, place)
            return _compared(file, _run_again(recorded, worker_for, out), beside, recorded)
    except WanDuetError as error:
        return Verification("cannot tell", (f"it cannot be run again: {error}",))


def _looked_at(file: Path, beside: Mapping[str, Any] | None) -> Verification:
    seen = _look(file)
    if beside is None:
        found = "it has a receipt inside and none beside it" if seen.receipt else "it has no receipt"
        return Verification("cannot tell", (found,))
    wrong = [*_different_size(seen.size, beside), *_contradictions(seen.receipt, beside)]
    if SHOTS_SHA256 in beside and beside[SHOTS_SHA256] != shots_hash(beside):
        wrong.append("what the receipt says of the shots is not what it was made with")
    entry = beside.get(FILE_ENTRY)
    if entry is not None and entry != file_entry(file):
        wrong.append("the bytes of the file are not those that its receipt names")
    if wrong:
        return Verification("different", tuple(wrong))
    unknown = []
    if entry is None:
        unknown.append("the receipt does not name the bytes of the file")
    if seen.receipt is None:
        unknown.append("the file has no receipt inside, so only a run can tell whether this request made it")
    elif is_film_receipt(beside) and SHOTS_SHA256 not in seen.receipt:
        unknown.append("the receipt inside the file is of a version that said nothing of shots")
    if unknown:
        return Verification("cannot tell", tuple(unknown))
    return Verification("same bits", ("bytes, size and both receipts agree; nothing was run again",))


def _run_again(recorded: Recorded, worker_for: Callable[[Recorded], LocalWorker], out: Path) -> Result:
    """Run the request alone: nothing that the receipt says of the result is used."""
    media = recorded_inputs(recorded.inputs, (Path.cwd(), recorded.folder))
    worker = worker_for(recorded)
    if recorded.request.task == SPEECH:
        worker = _as_long(worker, recorded, media)
    with threads_of(recorded.cpu):
        return worker.run(recorded.request, out, media)


def _film_again(film: RecordedFilm, worker_for: Callable[[RecordedFilm], LocalWorker], out: Path) -> Result:
    """Run the request of several shots alone, as `_run_again` does."""
    with threads_of(film.from_text.cpu):
        return worker_for(film).run(film.request, out, film.media())


def _as_long(worker: LocalWorker, recorded: Recorded, media: dict[str, Path]) -> LocalWorker:
    """Return a worker that makes speech as long as the recorded video, with its pose video.

    Raises ModelError if the pose video is not here. Removes it from `media`: it is no field of a request.
    """
    pose = media.pop(POSE_VIDEO, None)
    if POSE_VIDEO in recorded.inputs and pose is None:
        name = recorded.inputs[POSE_VIDEO]["name"]
        raise ModelError(f"its pose video {name} is not here; put it beside the receipt, or use --quick")
    seconds = float(Fraction(recorded.plan.frames_delivered) / Fraction(recorded.plan.fps))
    return replace(worker, pose_video=pose, max_seconds=seconds)


def _compared(file: Path, made: Result, beside: Mapping[str, Any], recorded: Recorded) -> Verification:
    wrong = different_entries(json.loads(sidecar(made.path).read_text(encoding="utf-8")), beside)
    first = first_difference(made.receipt.get(STEP_FINGERPRINTS, ()), recorded.steps)
    if first is not None and "latents_sha256" not in wrong:
        wrong.append(STEP_FINGERPRINTS)
    reasons = [f"a new run of the request has another {name}" for name in wrong]
    psnr = lowest_psnr(file, made.path)
    if psnr is None:
        return Verification("different", (*reasons, "the frames differ in number or size"))
    if not wrong and psnr == np.inf:
        return Verification("same bits", ("a new run has the same latents, frames and receipt",))
    if psnr == np.inf and wrong == ["latents_sha256"] and first is None:
        reasons.append("its frames are equal: the latents were rounded, or the receipt was changed")
        return Verification("cannot tell", tuple(reasons))
    reasons.append(f"its frames are at {psnr:.1f} dB PSNR of the file's")
    if not set(wrong) <= {"latents_sha256", "frames_sha256"}:
        return Verification("different", tuple(reasons))
    if first is not None:
        experts = recorded.plan.experts[recorded.plan.start_step :]
        reasons.append(first.text(experts, clips="clips" in beside))
    return by_size(psnr, first, beside["model"].get("dtype"), reasons)


@dataclass(frozen=True)
class _Seen:
    """What a file says of itself. size: width, height and number of frames. receipt: the one inside it."""

    size: Mapping[str, int]
    receipt: Mapping[str, Any] | None


def _look(file: Path) -> _Seen:
    if is_video(file):
        facts = probe(file)
        size = {"width": facts.width, "height": facts.height, "frames": facts.frames}
        return _Seen(size, _parsed(facts.tags.get(RECEIPT)))
    with Image.open(file) as image:
        lines = [str(line).partition(":") for line in image.getexif().values()]  # of a JPEG
        text = image.info.get(RECEIPT) or next((text for name, _, text in lines if name == RECEIPT), None)
        return _Seen({"width": image.width, "height": image.height, "frames": 1}, _parsed(text))


def _parsed(text: str | None) -> Mapping[str, Any] | None:
    with suppress(ValueError, RecursionError):
        found = json.loads(text or "null")
        return found if isinstance(found, dict) else None
    return None


def _receipt_beside(file: Path, receipt: Path | None) -> dict[str, Any] | None:
    place = sidecar(file) if receipt is None else receipt
    if receipt is None and not place.exists():
        return None
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError.of("--receipt", f"{place}: {error}", "give the .json file of the result") from None
    if not isinstance(found, dict) or "wan_duet" not in found:
        raise RequestError.of("--receipt", f"{place} is not a receipt", "give the .json file of the result")
    return found


def _contradictions(inside: Mapping[str, Any] | None, beside: Mapping[str, Any]) -> list[str]:
    if inside is None:
        return []
    late = _KNOWN_LATE | _OF_SHOTS
    names = sorted({*inside, *beside} - _NOT_OF_THE_RESULT - (late - {*inside}))
    return [
        f"the receipt inside the file has another {name}"
        for name in names
        if inside.get(name) != beside.get(name)
    ]


def _different_size(size: Mapping[str, int], receipt: Mapping[str, Any]) -> list[str]:
    """Compare the size and the number of frames of a file with the plan of a local receipt."""
    plan = receipt.get("plan") or {}
    planned = {"width": plan.get("width"), "height": plan.get("height"), "frames": plan.get("frames_out")}
    return [
        f"the file has {name} {size[name]}, its receipt {value}"
        for name, value in planned.items()
        if value is not None and value != size[name]
    ]
