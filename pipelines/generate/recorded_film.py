"""Reads the receipt of a video of several shots, so that it can be made again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import RequestError, SamplingError
from ..request.base import WanRequest
from ..request.joins import read_join
from ..request.parse import parse
from ..request.shots import FilmShot
from ..request.shots_request import SHOTS
from ..video.frame_hash import FRAMES_SHA256
from .local_receipt import Recorded, differences, recorded_in
from .recorded_inputs import recorded_inputs

__all__ = ["RecordedFilm", "film_in", "is_film_receipt"]


@dataclass(frozen=True)
class RecordedFilm:
    """The contents of a receipt of several shots. shots: what it says of each."""

    request: WanRequest
    shots: Sequence[Recorded]
    joins: Sequence[str]
    frames_sha256: str
    folder: Path

    @property
    def from_text(self) -> Recorded:
        """The first shot from text; the first of all where each begins with an image."""
        return next((shot for shot in self.shots if not _from_image(shot)), self.shots[0])

    @property
    def from_image(self) -> Recorded | None:
        """The first shot that begins with an image, if another model made it."""
        found = next((shot for shot in self.shots if _from_image(shot)), None)
        return None if found is None or found.files == self.from_text.files else found

    def media(self) -> dict[str, Path]:
        """Return {field, as in "shots[1].image_url": file} of the images that are here."""
        found: dict[str, Path] = {}
        for number, (join, shot) in enumerate(zip(self.joins, self.shots, strict=True)):
            here = recorded_inputs(shot.inputs, (Path.cwd(), self.folder))
            if read_join(join, "joins").given:
                here.pop("image_url", None)  # a frame of the shot before
            found |= {f"shots[{number}].{field}": file for field, file in here.items()}
        return found

    def require_shots(self, shots: Sequence[FilmShot]) -> None:
        """Raise RequestError when the request of the receipt has other shots than it lists."""
        asked = [shot.join.text() for shot in shots]
        if asked != list(self.joins):
            found = f"joins {', '.join(self.joins)}, and its request has {', '.join(asked)}"
            raise RequestError.of("from-receipt", found, "give a receipt that was not changed")

    def require_frames(self, sha256: str) -> None:
        """Raise SamplingError if frames with this hash are not those of the receipt."""
        if sha256 != self.frames_sha256:
            raise SamplingError(
                "the latents of every shot are those of the receipt, but the frames are not: "
                f"{differences(self.shots[0])}"
            )


def is_film_receipt(content: Mapping[str, Any]) -> bool:
    """Return whether a receipt is that of a video of several shots."""
    return content.get("kind") == SHOTS


def film_in(content: Mapping[str, Any], file: Path) -> RecordedFilm:
    """Return the values of a receipt that was read from `file`.

    Raises RequestError when it is damaged, or of a ComfyUI MODEL, of which nothing is promised.
    """
    try:
        request = parse(SHOTS, {**content["request"], "seed": content["seed"]})
        if len(content["shots"]) != len(content["joins"]) or not content["shots"]:
            raise ValueError(f"{len(content['shots'])} shots and {len(content['joins'])} joins")
        return RecordedFilm(
            request,
            [recorded_in(shot, file) for shot in content["shots"]],
            [str(join) for join in content["joins"]],
            str(content[FRAMES_SHA256]),
            file.parent,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RequestError.of(
            "from-receipt", f"{file} is damaged: {error!r}", "make a new one from the request"
        ) from error


def _from_image(shot: Recorded) -> bool:
    return "image_url" in type(shot.request).model_fields
