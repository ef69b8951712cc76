"""Turns a request for one video of several shots into a request for each shot."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..errors import Problem, RequestError
from .base import WanRequest
from .field_rows import LOCAL
from .joins import Join, read_join
from .parse import parse, request_for
from .report import Finding
from .seeds import SEED_MAX
from .shots_request import SHOTS, Shot
from .storyboard import read_storyboard
from .timing import generated_frames

__all__ = [
    "FilmShot",
    "in_shot",
    "inputs_of_shot",
    "is_film",
    "shots_of",
    "stated_shots",
    "with_seed",
    "with_shot",
]

_FROM_TEXT = "text-to-video", "small-text-to-video"  # the tasks of the A14B and of the 5B
_FROM_IMAGE = "image-to-video", "small-image-to-video"
_OF_THE_FILM = ("shots", "storyboard", "match_colours", "overlap_latents", LOCAL)


@dataclass(frozen=True)
class FilmShot:
    """One shot as a request of its own.

    request: the first image of a shot that continues the one before is only named: it does not exist yet.
    asked_s: the length that was asked for in seconds, if it was.
    """

    number: int
    join: Join
    request: WanRequest
    asked_s: float | None = None

    @property
    def frames(self) -> int:
        """How many frames the shot adds to the video."""
        count: int = self.request.num_frames  # type: ignore[attr-defined]
        return count - self.join.doubled

    @property
    def from_image(self) -> bool:
        """Whether the shot begins with an image."""
        return "image_url" in type(self.request).model_fields

    def finding(self, found: Finding) -> Finding:
        """Return a finding of this shot's request as one of the whole, under the field that was given."""
        if found.field == "num_frames" and found.used is None and self.asked_s is not None:
            found = replace(found, field="seconds", asked=self.asked_s)
        return replace(found, field=_of_shot(self.number, found.field))


def is_film(request: WanRequest) -> bool:
    """Return whether the request has shots."""
    return request.task == SHOTS


def stated_shots(request: WanRequest) -> tuple[Shot, ...]:
    """Return the shots of a request, from `shots` or `storyboard`.

    Raises RequestError when it has neither or both, or when one is no shot.
    """
    shots: tuple[Shot, ...] = request.shots  # type: ignore[attr-defined]
    text: str | None = request.storyboard  # type: ignore[attr-defined]
    if bool(shots) == (text is not None):
        found = "given together with shots" if shots else "not given, and there are no shots"
        raise RequestError.of("storyboard", found, "give one of the two")
    if text is not None:
        values = {**request.document(), "shots": read_storyboard(text)}
        del values["storyboard"]
        shots = parse(SHOTS, values).shots  # type: ignore[attr-defined]
    return shots


def shots_of(request: WanRequest, tasks: Collection[str] = (), fps: int = 16) -> list[FilmShot]:
    """Return the shots of a request for several.

    tasks: what the model can do; it decides between the kinds of the A14B and of the 5B.
    fps:   of the model, where the request says none. Seconds become the next 4 n + 1 frames at this rate.

    A shot without a seed has that of the whole, plus its number.

    Raises RequestError that names shot and field.
    """
    made = [_tried(request, shot, number, tasks, fps) for number, shot in enumerate(stated_shots(request))]
    problems = [problem for each in made if isinstance(each, RequestError) for problem in each.problems]
    found = [each for each in made if isinstance(each, FilmShot)]
    problems += [
        Problem(f"shots[{at}].join", f"takes {late.join.doubled} frames", "take fewer than both shots have")
        for at, (early, late) in enumerate(pairwise(found), 1)
        if not problems and min(early.frames - late.join.frames, late.frames) < 1
    ]
    if problems:
        raise RequestError(problems)
    return found


def _tried(
    request: WanRequest, shot: Shot, number: int, tasks: Collection[str], fps: int
) -> FilmShot | RequestError:
    try:
        return _film_shot(request, shot, number, tasks, fps)
    except RequestError as error:
        return in_shot(number, error)


def inputs_of_shot(number: int, media: Mapping[str, Path]) -> dict[str, Path]:
    """Return {field of the shot: file} of {field, as in "shots[1].image_url": file}."""
    start = f"shots[{number}]."
    return {name.removeprefix(start): file for name, file in media.items() if name.startswith(start)}


def in_shot(number: int, error: RequestError) -> RequestError:
    """Return the error about the request of a shot as one about the whole."""
    return RequestError(
        [Problem(_of_shot(number, each.field), each.found, each.fix) for each in error.problems]
    )


def with_shot(request: WanRequest, shot: Mapping[str, Any]) -> tuple[WanRequest, int]:
    """Return the request with one more shot, and the number of that shot, from 0.

    Raises RequestError on `request` if it is no request for shots, and on `shots[N]` for a wrong shot.
    """
    if not is_film(request):
        fix = "connect Wan Duet Shots, or the shot before"
        raise RequestError.of("request", f"a request for {request.task}", fix)
    stated = request.shots or request.storyboard  # type: ignore[attr-defined]
    earlier = [
        one.model_dump(mode="json", exclude_none=True) for one in (stated_shots(request) if stated else ())
    ]
    values = {**request.document(), "shots": [*earlier, shot]}
    values.pop("storyboard", None)
    made = parse(SHOTS, values)
    shots_of(made)
    return made, len(earlier)


def with_seed(request: WanRequest, seed: int) -> WanRequest:
    """Return the request with this seed for the whole."""
    return parse(SHOTS, {**request.document(), "seed": seed})


def _film_shot(request: WanRequest, shot: Shot, number: int, tasks: Collection[str], fps: int) -> FilmShot:
    join = read_join(shot.join, "join")
    own = shot.model_dump(mode="json", exclude_none=True, exclude={"join", "seconds"})
    whole = {name: value for name, value in request.document().items() if name not in _OF_THE_FILM}
    if number == 0 and join.kind != "cut":
        raise RequestError.of("join", f"got {shot.join!r}", "leave it out: there is no shot before the first")
    if shot.seconds is not None and shot.num_frames is not None:
        raise RequestError.of("seconds", "given together with num_frames", "give one of the two")
    if join.given:
        if shot.image_url is not None:
            fix = "leave it out, or join by cut"
            raise RequestError.of("image_url", "given to a shot that begins with the frame before", fix)
        own["image_url"] = f"a frame of shot {number}"
    if shot.end_image_url is not None and "image_url" not in own:
        fix = "give image_url too, or join by continue: only a shot that begins with an image ends with one"
        raise RequestError.of("end_image_url", "given to a shot without a first image", fix)
    values = {"frames_per_second": fps, **whole, **own}
    if shot.seconds is not None:
        values["num_frames"] = generated_frames(round(shot.seconds * values["frames_per_second"]))
    if "seed" in whole and shot.seed is None:
        values["seed"] = (whole["seed"] + number) % (SEED_MAX + 1)
    if request.local is not None:
        values[LOCAL] = request.local.asked()
    return FilmShot(number, join, request_for(_task(own, tasks), values), shot.seconds)


def _task(own: dict[str, Any], tasks: Collection[str]) -> str:
    usual, small = _FROM_IMAGE if "image_url" in own else _FROM_TEXT
    return small if small in tasks and usual not in tasks else usual


def _of_shot(number: int, field: str) -> str:
    """Return the name of a shot's field in the whole request: shots[1].prompt, but resolution as it is."""
    own = field.partition("[")[0].partition(".")[0] in Shot.model_fields
    return f"shots[{number}].{field}" if own else field
