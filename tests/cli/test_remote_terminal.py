"""How long a terminal waits for a remote job, on a clock that needs no time."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from wan_duet.pipelines.cli.remote_terminal import follow
from wan_duet.pipelines.errors import JobStoppedError
from wan_duet.pipelines.remote.remote_thread import Ticket

JOB: Any = SimpleNamespace(file_path="film.mp4")


class Looked(Future):  # type: ignore[type-arg]
    """Nobody may ask it again and again without a wait."""

    looks = 0

    def done(self) -> bool:
        self.looks += 1
        assert self.looks < 1000
        return super().done()


def ends_after(seconds: float, end: Callable[[Looked], object]) -> tuple[Ticket, Callable[..., object]]:
    """A job that ends so many seconds after it is first waited for, and what waits for it."""
    done, now = Looked(), 0.0

    def wait(futures: Sequence[Looked], timeout: float) -> None:
        nonlocal now
        if now < seconds <= now + timeout:
            end(done)
        now += timeout

    return Ticket("0123456789", done, lambda: None), wait


def stopped(wait: Callable[..., object]) -> Callable[..., object]:
    """Ctrl-C comes during the first wait."""
    waits: list[Callable[..., object]] = [wait]

    def first(futures: object, timeout: float) -> None:
        if len(waits) == 1:
            waits.append(wait)
            raise KeyboardInterrupt
        wait(futures, timeout=timeout)

    return first


def test_a_job_is_waited_for() -> None:
    """Windows delivers Ctrl-C between two waits: each lasts a second at most."""
    ticket, wait = ends_after(60.0, lambda done: done.set_result(JOB))
    assert follow(ticket, io.StringIO(), wait) is JOB
    assert isinstance(ticket.done, Looked)
    assert ticket.done.looks >= 60


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(5.0, "nothing was paid"), (60.0, "No answer yet; see `wan-duet jobs show 01234567`")],
)
def test_after_ctrl_c_the_provider_has_some_seconds_to_say_what_became_of_the_job(
    seconds: float, said: str
) -> None:
    error = JobStoppedError("nothing was paid", provider="fal", money="none spent")
    ticket, wait = ends_after(seconds, lambda done: done.set_exception(error))
    stream = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        follow(ticket, stream, stopped(wait))
    assert said in stream.getvalue()


@pytest.mark.parametrize("can_stop", [True, False])
def test_ctrl_c_says_at_once_when_the_job_goes_on_and_is_billed(can_stop: bool) -> None:
    ticket, wait = ends_after(60.0, lambda done: done.set_result(JOB))
    stopped_at: list[str] = []
    stream = io.StringIO()
    ticket = replace(ticket, stop=lambda: stopped_at.append(stream.getvalue()), can_stop=can_stop)
    with pytest.raises(KeyboardInterrupt):
        follow(ticket, stream, stopped(wait))
    (said,) = stopped_at
    assert ("is billed" in said) != can_stop
