"""Says where shots can hand over latents, as the LoRAs of Stable Video Infinity 2.0 Pro are trained for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import PurePosixPath

from .base import WanRequest
from .model_facts import ModelFacts
from .report import Finding
from .shots import FilmShot

__all__ = ["hands_latents", "overlap_findings"]

_FIELD = "overlap_latents"
_TRAINED = "the LoRAs of Stable Video Infinity 2.0 Pro"


def hands_latents(request: WanRequest) -> bool:
    """Return whether a shot that overlaps is given latents of the one before, in place of frames."""
    return bool(request.overlap_latents == "on")  # type: ignore[attr-defined]


def overlap_findings(
    request: WanRequest, shots: Sequence[FilmShot], runner: str, family: ModelFacts | None
) -> Iterator[Finding]:
    """Yield what stands against `overlap_latents`, and for it. family: of shots that begin with an image."""
    if not hands_latents(request):
        yield from _hints(shots) if runner == "local" else ()
        return
    if runner != "local":
        yield _impossible(_FIELD, "on", "a provider takes images, no latents; leave it out, or run it here")
        return
    if family is not None and (family.image_form != "channels" or family.uses_clip):
        reason = (
            f"{family.name} is not the model of {_TRAINED}; use Wan 2.2 A14B image to video, or leave it out"
        )
        yield _impossible(_FIELD, "on", reason)
    for shot in shots:
        if (end := getattr(shot.request, "end_image_url", None)) is not None:
            reason = f"the latents of {_TRAINED} have no place for it; leave it out"
            yield _impossible(f"shots[{shot.number}].end_image_url", end, reason)
    for early, late in pairwise(shots):
        frames = early.request.num_frames  # type: ignore[attr-defined]
        if late.join.kind == "overlap" and frames % 4 != 1:
            reason = f"its last latent frame has frames that are not shown; give {frames - (frames - 1) % 4}"
            yield _impossible(f"shots[{early.number}].num_frames", frames, reason)
    if not any(_loras(shot) for shot in shots):
        reason = f"{_TRAINED} are trained for it, and the request has no LoRA"
        yield Finding(_FIELD, "warning", "on", "on", reason)


def _hints(shots: Sequence[FilmShot]) -> Iterator[Finding]:
    """Name a LoRA whose name says that it wants latents. Its tensors are those of any other LoRA."""
    for shot in shots:
        named = [path for path in _loras(shot) if shot.join.kind == "overlap" and _says_so(path)]
        for path in named:
            reason = f"its name says that it is of {_TRAINED[4:]}, which wants overlap_latents: on"
            yield Finding(f"shots[{shot.number}].loras", "warning", path, path, reason)


def _says_so(path: str) -> bool:
    name = PurePosixPath(path.replace("\\", "/")).name.lower()
    return "svi" in name and "pro" in name


def _loras(shot: FilmShot) -> list[str]:
    return [lora.path for lora in getattr(shot.request, "loras", ())]


def _impossible(field: str, asked: object, reason: str) -> Finding:
    return Finding(field, "impossible", asked, None, reason)
