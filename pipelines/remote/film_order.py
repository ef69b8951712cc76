"""Orders a video of several shots: all are checked, and their files read, before the first is bought."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import RequestError
from ..request import Finding, NovitaModel, Report, WanRequest, check
from ..request.parse import parse
from ..request.prices import PriceTable
from ..request.seeds import seed_of
from ..request.shots import FilmShot, in_shot, inputs_of_shot, shots_of, with_seed
from ..video.film_folder import FilmFolder
from ..video.local_file import FindFile, any_file
from .job_record import Order
from .order import order_for
from .payload import Prepared

__all__ = ["FILMS", "FilmOrder", "OrderTerms", "film_order"]

FILMS = "shots"  # in the folder of the journal: where shots lie until their video is complete

_A_FRAME = "https://frame.invalid/of-the-shot-before.png"  # in place of a frame that does not exist yet


def _nothing(request: WanRequest) -> Sequence[Finding]:
    del request
    return ()


@dataclass(frozen=True)
class OrderTerms:
    """How the order of a shot is made. The fields are arguments of `order_for`.

    found: returns what was found in the files of a shot's request.
    """

    runner: str
    prices: PriceTable
    novita_model: NovitaModel = "Wan 2.1"
    find: FindFile = any_file
    check_stop: Callable[[], None] = lambda: None
    found: Callable[[WanRequest], Sequence[Finding]] = _nothing

    def order(self, request: WanRequest, out: Path, media: Mapping[str, Path]) -> tuple[Order, Prepared]:
        """Return what `order_for` returns, and raise what it raises."""
        return order_for(
            request,
            self.runner,
            out,
            media=media,
            prices=self.prices,
            find=self.find,
            check_stop=self.check_stop,
            novita_model=self.novita_model,
            found=self.found(request),
        )


@dataclass(frozen=True)
class FilmOrder:
    """A video to buy.

    request: with a seed.
    media:   {field, as in "shots[1].image_url": the file that was written for a connected medium}.
    report:  of all shots, with the price of the whole.
    folder:  of this video, and of every other order for the same.
    repeats: whether a video that is finished already may serve: the seed was stated.
    """

    request: WanRequest
    terms: OrderTerms
    media: Mapping[str, Path]
    report: Report
    folder: FilmFolder
    repeats: bool

    @property
    def shots(self) -> list[FilmShot]:
        return shots_of(self.request)


def film_order(
    request: WanRequest,
    terms: OrderTerms,
    root: Path,
    media: Mapping[str, Path],
    found: Sequence[Finding] = (),
) -> FilmOrder:
    """Return the order of a video. Spends and sends nothing.

    root:  where the folders of unfinished videos are.
    found: what is known of the connected media.

    Raises RequestError with everything that the runner cannot do, or a file that cannot be read.
    """
    shots = shots_of(request)
    in_files = [shot.finding(one) for shot in shots for one in terms.found(shot.request)]
    report = check(
        request,
        terms.runner,
        prices=terms.prices,
        novita_model=terms.novita_model,
        found=[*in_files, *found],
    )
    report.require()
    stated = seed_of(request) is not None
    name = _fingerprint(request if stated else with_seed(request, 0), terms, media)
    folder = FilmFolder(root / (name if stated else f"{name}-any"))
    return FilmOrder(folder.seeded(request, terms.runner), terms, media, report, folder, repeats=stated)


def _fingerprint(request: WanRequest, terms: OrderTerms, media: Mapping[str, Path]) -> str:
    """Return a hash of what is ordered for each shot, and of how the shots become one video."""
    ordered = [
        [shot.join.text(), order.provider, order.endpoint, dict(order.payload)]
        for shot in shots_of(request)
        for order in [_known_order(shot, terms, media)]
    ]
    whole = request.match_colours, request.video_quality, request.video_write_mode  # type: ignore[attr-defined]
    return hashlib.sha256(json.dumps([ordered, whole], sort_keys=True).encode()).hexdigest()


def _known_order(shot: FilmShot, terms: OrderTerms, media: Mapping[str, Path]) -> Order:
    """Return the order of a shot without the frame that it is given."""
    request = shot.request
    if shot.join.given:
        request = parse(request.kind, {**request.document(), "image_url": _A_FRAME})
    try:
        return terms.order(request, Path("shot.mp4"), inputs_of_shot(shot.number, media))[0]
    except RequestError as error:
        raise in_shot(shot.number, error) from error
