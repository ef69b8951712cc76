"""Buys a video of several shots for a node: one job after another, on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from comfy import model_management

from ..pipelines.errors import JobStoppedError
from .files import EMBED_METADATA
from .remote_jobs import PurchaseTerms, purchasing_at
from .remote_progress import RemoteProgress

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from ..pipelines.remote.film_order import FilmOrder
    from ..pipelines.remote.film_purchase import BoughtFilm
    from ..pipelines.remote.job_record import Job, Order
    from ..pipelines.remote.payload import Prepared

__all__ = ["bought_film"]

_POLL_S = 0.1


async def bought_film(
    film: FilmOrder, out: Path, terms: PurchaseTerms, node_id: str | None, tags: Mapping[str, str]
) -> BoughtFilm:
    """Return the finished video. After a Stop the running job is cancelled, and ComfyUI's exception raised.

    tags: as for `buy_film`.
    """
    from ..pipelines.remote.film_purchase import buy_film

    purchase = purchasing_at(film.terms.runner, terms)
    progress = _FilmProgress(node_id, film)

    def buy(number: int, order: Order, prepared: Prepared) -> Job:
        progress.begin_shot(number)
        return asyncio.run(purchase(order, prepared, progress.receive).wait(progress.check))

    def work() -> BoughtFilm:
        return buy_film(
            film, out, buy, terms.limits, progress, tags=tags, embed_receipt=EMBED_METADATA, reuse=terms.reuse
        )

    done = _begun(work)
    try:
        while not done.done():
            progress.refresh()
            await asyncio.sleep(_POLL_S)
    except BaseException:
        progress.stop()
        raise
    bought = done.result()
    progress.finish(bought)
    return bought


def _begun(work: Callable[[], BoughtFilm]) -> Future[BoughtFilm]:
    """Run `work` on a thread that the loop of the graph does not wait for."""
    done: Future[BoughtFilm] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name="wan-duet-shots", daemon=True).start()
    return done


class _FilmProgress(RemoteProgress):
    """Shows the job of each shot, and then how they are joined. Implements `pipelines.progress.Progress`.

    `refresh` is called on the thread of the graph, the rest on the one that buys.
    """

    def __init__(self, node_id: str | None, film: FilmOrder) -> None:
        report = film.report
        super().__init__(
            node_id, (f"price: {report.price.text()}", *(finding.line() for finding in report.told))
        )
        self._provider, self._count = report.runner, len(film.shots)
        self._shot = ""
        self._joined: tuple[int, int] | None = None  # frames done, and all
        self._stopped = threading.Event()

    def begin_shot(self, number: int) -> None:
        self._shot = f"shot {number + 1} of {self._count} · "

    def begin(self, stage: str, total: int, unit: str) -> None:
        del stage, unit
        self._joined = (0, total)

    def advance(self, done: int, preview: Callable[[], Tensor] | None = None) -> None:
        del preview
        if self._joined is not None:
            self._joined = (done, self._joined[1])

    def check(self) -> None:
        if self._stopped.is_set():
            raise JobStoppedError("stopped between two shots", provider=self._provider)

    def stop(self) -> None:
        self._stopped.set()

    def refresh(self) -> None:
        if self._joined is None:
            super().refresh()
            return
        model_management.throw_exception_if_processing_interrupted()
        self._shot = ""
        self.show(f"joining {self._count} shots: {self._joined[0]} of {self._joined[1]} frames")
        self._show_bar(*self._joined)

    def show(self, line: str) -> None:
        super().show(f"{self._shot}{line}")

    def finish(self, film: BoughtFilm) -> None:
        """Say what the video is."""
        self._shot = ""
        said = "done" if film.new else "paid for before, nothing spent now"
        self.show(f"{self._count} shots · {said}")
