"""Says of a finished file whether it is what its receipt says.

Two ways: quick, by what file and receipt say of each other, and by running the request of the receipt again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from PIL import Image

from ..errors import ModelError, RequestError, WanDuetError
from ..sampling.step_fingerprints import STEP_FINGERPRINTS, first_difference
from ..video.output import FILE_ENTRY, file_entry, sidecar
from ..video.probe import probe
from ..video.read import read_frames
from ..video.tags import RECEIPT
from .cpu_settings import threads_of
from .local_receipt import Recorded, read_receipt
from .local_worker import LocalWorker
from .recorded_inputs import recorded_inputs
from .result import Result
from .speech_run import POSE_VIDEO, SPEECH

__all__ = ["Verification", "verify_by_running", "verify_quickly"]

Agreement = Literal["same bits", "same within rounding", "different", "cannot tell"]

# Frames that part by one of 255 in a sixteenth of the values are at 60 dB. A word more in the negative prompt
# of few steps may be at 40 dB.
_ROUNDING_PSNR_DB, _CLOSE_PSNR_DB = 60.0, 40.0
# Relative differences of the first step that differs: up to the first it is rounding, above the second it is
# not. In float32, other threads make 3e-6, convolutions in TF32 up to 1e-3, a LoRA at 0.51 in place of 0.5
# 7e-3. In 16 bits rounding makes 5e-2, as much as a word in the negative prompt.
_STEP_BOUNDS = {"float32": (2e-5, 1e-3)}
_STEP_BOUNDS_OF_16_BITS = (0.0, 0.3)
_NOT_OF_THE_RESULT = {"timings_s", FILE_ENTRY, "latents_reused"}
_OF_THE_RESULT = (
    *("kind", "inputs", "prompt", "plan", "latents_sha256", "frames_sha256"),
    *("interpolator", "acceleration", "lossy_by_choice"),
)
_OF_THE_MODEL = ("family", "precision", "dtype", "files", "loras")
# Of speech: the receipt inside is written before the latents are there.
_KNOWN_LATE = {"latents_sha256", STEP_FINGERPRINTS}
_YOUNGER = {"frames_sha256"}  # missing in older receipts


@dataclass(frozen=True)
class Verification:
    """reasons: what was found, one sentence each."""

    verdict: Agreement
    reasons: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return {"verdict": self.verdict, "reasons": list(self.reasons)}

    def text(self) -> str:
        return "\n".join([self.verdict, *(f"  {reason}" for reason in self.reasons)])


def verify_quickly(file: Path, receipt: Path | None = None) -> Verification:
    """Compare a video or image with its receipts, inside it and beside it, without running anything.

    receipt: the file of the receipt, if it is not the one beside `file`.

    Raises MediaError when `file` cannot be read, RequestError when a receipt cannot.
    """
    return _looked_at(file, _receipt_beside(file, receipt))


def verify_by_running(
    file: Path, worker_for: Callable[[Recorded], LocalWorker], receipt: Path | None = None
) -> Verification:
    """Run the request of the receipt again, and compare receipt and frames with those of `file`.

    worker_for: returns what runs it, with the model and the choices of the receipt.
    receipt:    as for `verify_quickly`.

    A quick look goes first. Raises as `verify_quickly`, and what the user's stop raises.
    """
    beside = _receipt_beside(file, receipt)
    quick = _looked_at(file, beside)
    if quick.verdict == "different" or beside is None:
        return quick
    try:
        recorded = read_receipt(receipt or sidecar(file))
        with TemporaryDirectory() as folder:
            made = _run_again(recorded, worker_for, Path(folder) / file.name)
            return _compared(file, made, beside, recorded)
    except WanDuetError as error:
        return Verification("cannot tell", (f"it cannot be run again: {error}",))


def _looked_at(file: Path, beside: Mapping[str, Any] | None) -> Verification:
    seen = _look(file)
    if beside is None:
        found = "it has a receipt inside and none beside it" if seen.receipt else "it has no receipt"
        return Verification("cannot tell", (found,))
    wrong = [*_different_size(seen.size, beside), *_contradictions(seen.receipt, beside)]
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
    wrong = _different_entries(json.loads(sidecar(made.path).read_text(encoding="utf-8")), beside)
    first = first_difference(made.receipt.get(STEP_FINGERPRINTS, ()), recorded.steps)
    if first is not None and "latents_sha256" not in wrong:
        wrong.append(STEP_FINGERPRINTS)
    reasons = [f"a new run of the request has another {name}" for name in wrong]
    psnr = _psnr(file, made.path)
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
    return _by_size(psnr, None if first is None else first.size, beside["model"].get("dtype"), reasons)


def _by_size(psnr: float, first: float | None, dtype: str, reasons: Sequence[str]) -> Verification:
    """Decide by the sizes of differences alone.

    psnr: of the frames, in dB. first: relative difference of the first step that differs; None if unknown.
    """
    if first is not None:
        rounding, other = _STEP_BOUNDS.get(dtype, _STEP_BOUNDS_OF_16_BITS)
        if first > other:
            return Verification("different", (*reasons, "rounding does not make so much in one step"))
        if first <= rounding and psnr >= _CLOSE_PSNR_DB:
            return Verification("same within rounding", tuple(reasons))
    if psnr < _CLOSE_PSNR_DB:
        return Verification("different", tuple(reasons))
    if psnr >= _ROUNDING_PSNR_DB:
        return Verification("same within rounding", tuple(reasons))
    return Verification("cannot tell", (*reasons, "that may be rounding, or a small change of the request"))


def _different_entries(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """Return the entries about the result in which two receipts differ."""
    wrong = [
        name
        for name in _OF_THE_RESULT
        if here.get(name) != there.get(name) and (name in there or name not in _YOUNGER)
    ]
    wrong += [
        f"model.{name}" for name in _OF_THE_MODEL if here["model"].get(name) != there["model"].get(name)
    ]
    wrong += ["adjustments"] if _adjusted(here) != _adjusted(there) else []
    # An unset seed was drawn, and the new run was given the one that was drawn.
    request = {"seed": there["seed"], **{k: v for k, v in there["request"].items() if v is not None}}
    return wrong + (["request"] if request != {**here["request"], "seed": there["seed"]} else [])


def _adjusted(receipt: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """Return what was adjusted to what. The reasons are texts of a version."""
    return [(entry.get("field"), entry.get("used")) for entry in receipt.get("adjustments", ())]


def _psnr(one: Path, other: Path) -> float | None:
    """Return the lowest PSNR of a frame in dB, of 8-bit values. None if number or size of frames differ."""
    lowest, pairs = np.inf, zip(_frames(one), _frames(other), strict=True)
    with suppress(ValueError):  # zip: one of them is longer
        for first, second in pairs:
            if first.shape != second.shape:
                return None
            error = float(np.mean((first.astype(np.float64) - second) ** 2))
            lowest = min(lowest, 10 * np.log10(255**2 / error) if error else np.inf)
        return float(lowest)
    return None


def _frames(file: Path) -> Any:
    if _is_video(file):
        return read_frames(file)
    with Image.open(file) as image:
        return iter([np.asarray(image.convert("RGB"))])


def _is_video(file: Path) -> bool:
    return file.suffix.lower() not in (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class _Seen:
    """What a file says of itself. size: width, height and number of frames. receipt: the one inside it."""

    size: Mapping[str, int]
    receipt: Mapping[str, Any] | None


def _look(file: Path) -> _Seen:
    if _is_video(file):
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
    names = sorted({*inside, *beside} - _NOT_OF_THE_RESULT - (_KNOWN_LATE - {*inside}))
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
