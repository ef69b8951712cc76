"""What the thread promises: nobody waits for a cancel, jobs outlive their callers, one job is shared."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.errors import AmbiguousError, JobStoppedError, SpendingError, WanDuetError
from wan_duet.pipelines.remote.job_context import PollTimes
from wan_duet.pipelines.remote.job_event import JobEvent
from wan_duet.pipelines.remote.job_record import Order
from wan_duet.pipelines.remote.purchase import Prepare
from wan_duet.pipelines.remote.remote_thread import RemoteThread, Ticket
from wan_duet.pipelines.remote.spending_limits import SpendingLimits

from ..quick_clock import on_a_quick_clock
from .workshop import Workshop

Make = Callable[..., Order]
QUICK = {"fal": PollTimes(first=0.002, longest=0.002, look=0.002)}


class UserStop(BaseException):
    """As ComfyUI's own, which is no Exception."""


@pytest.fixture
def thread(tmp_path: Path) -> Iterator[RemoteThread]:
    made = RemoteThread(tmp_path, poll_times=QUICK)
    yield made
    made.close()


def buy(thread: RemoteThread, order: Order, workshop: Workshop, **choices: Any) -> Ticket:
    defaults: dict[str, Any] = {
        "limits": SpendingLimits(),
        "prepare": as_it_is(order),
        "on_event": lambda event: None,
    }
    return thread.buy(order, workshop, **{**defaults, **choices})


def as_it_is(order: Order) -> Prepare:
    async def prepare() -> dict:
        return dict(order.payload)

    return prepare


def until(happened: Callable[[], object]) -> None:
    end = time.monotonic() + 5
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_a_caller_gets_the_finished_job(thread: RemoteThread, workshop: Workshop, order: Make) -> None:
    told: list[JobEvent] = []
    ticket = buy(thread, order(), workshop, on_event=told.append)
    job = asyncio.run(ticket.wait(lambda: None))
    assert job.file is not None
    assert told[-1].step == "downloading"


def test_a_stop_returns_at_once_and_is_passed_on_behind_it(
    thread: RemoteThread, workshop: Workshop, order: Make
) -> None:
    workshop.looks = 10**6
    slow = threading.Event()
    workshop.during["cancel"] = lambda: slow.wait(5) and None  # the provider takes its time
    ticket = buy(thread, order(), workshop)
    until(lambda: workshop.made)

    def stop() -> None:
        raise UserStop

    begin = time.monotonic()
    with pytest.raises(UserStop):
        asyncio.run(ticket.wait(stop))
    assert time.monotonic() - begin < 1
    slow.set()
    with pytest.raises(JobStoppedError):
        ticket.done.result(5)
    assert workshop.made["request-1"].cancelled


def test_the_callers_loop_goes_on_and_a_stop_is_looked_for_some_times_a_second() -> None:
    """ComfyUI runs all nodes of a prompt on one loop."""
    asked = 0

    async def wait(clock: Callable[[], float]) -> None:
        def stop_after_a_minute() -> None:
            nonlocal asked
            asked += 1
            if clock() >= 60 or asked > 10_000:
                raise UserStop

        other = asyncio.ensure_future(asyncio.sleep(5))
        with pytest.raises(UserStop):
            await Ticket("job", Future(), lambda: None).wait(stop_after_a_minute)
        assert other.done()

    on_a_quick_clock(wait, patience_s=0.0)
    assert 2 * 60 <= asked <= 20 * 60


def test_the_end_of_the_callers_loop_stops_the_job(
    thread: RemoteThread, workshop: Workshop, order: Make
) -> None:
    workshop.looks = 10**6
    ticket = buy(thread, order(), workshop)

    async def torn_down() -> None:
        waiting = asyncio.ensure_future(ticket.wait(lambda: None))
        await asyncio.sleep(0.01)
        waiting.cancel()
        await waiting

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(torn_down())
    with pytest.raises(JobStoppedError):
        ticket.done.result(5)


def test_two_callers_share_one_job_which_only_both_can_stop(
    thread: RemoteThread, workshop: Workshop, order: Make
) -> None:
    workshop.looks = 10**6
    one, other = (buy(thread, order(), workshop) for _ in range(2))
    until(lambda: workshop.made)
    one.stop()
    one.stop()
    time.sleep(0.05)
    assert "cancel" not in workshop.calls
    workshop.looks = 1
    assert other.done.result(5).file is not None
    assert len(workshop.made) == 1


def test_a_listener_that_breaks_does_not_break_the_job(
    thread: RemoteThread, workshop: Workshop, order: Make
) -> None:
    def on_event(event: JobEvent) -> None:
        raise RuntimeError("the window is closed")

    assert buy(thread, order(), workshop, on_event=on_event).done.result(5).file is not None


def test_a_refusal_of_the_gate_comes_before_anything_begins(
    thread: RemoteThread, workshop: Workshop, order: Make
) -> None:
    with pytest.raises(SpendingError):
        buy(thread, order(), workshop, limits=SpendingLimits(per_run_usd=0.01))
    assert thread.journal.jobs() == []


def test_open_jobs_go_on_at_the_next_start_and_save_their_files(
    tmp_path: Path, workshop: Workshop, order: Make
) -> None:
    workshop.looks = 10**6
    first = RemoteThread(tmp_path, poll_times=QUICK)
    ticket = buy(first, order(), workshop)
    until(lambda: workshop.made)
    first.close()
    workshop.looks = 1
    second = RemoteThread(tmp_path, poll_times=QUICK)
    assert second.resume([Workshop(account="another0")]) == []
    assert second.resume([workshop]) == [ticket.job_id]
    job = second.attach(ticket.job_id, workshop, lambda event: None).done.result(5)
    assert job.file is not None
    assert len(workshop.made) == 1
    second.close()


def test_what_is_told_to_nobody_does_not_let_resubmit_buy_anew(
    tmp_path: Path, workshop: Workshop, order: Make
) -> None:
    """A workflow may keep resubmit on: the user has to have read that the fate of a job is unknown."""
    workshop.lists, workshop.faults["submit"] = False, ["answer lost"]
    gone = threading.Event()
    workshop.during["submit"] = lambda: gone.wait(5) and None
    first = RemoteThread(tmp_path, poll_times=QUICK)
    ticket = buy(first, order(), workshop)
    until(lambda: "submit" in workshop.calls)
    ticket.stop()
    gone.set()
    assert isinstance(ticket.done.exception(5), AmbiguousError)
    assert not first.journal.job(ticket.job_id).told
    first.close()
    second = RemoteThread(tmp_path, poll_times=QUICK)
    assert second.resume([workshop]) == [ticket.job_id]
    until(lambda: workshop.calls.count("reconcile") == 2)
    with pytest.raises(AmbiguousError):
        buy(second, order(), workshop, resubmit=True).done.result(5)
    assert len(workshop.made) == 1
    assert second.resume([workshop]) == []
    buy(second, order(), workshop, resubmit=True).done.result(5)
    assert len(workshop.made) == 2
    second.close()


def test_whoever_waits_gets_an_answer_when_the_journal_breaks(
    tmp_path: Path, workshop: Workshop, order: Make
) -> None:
    thread = RemoteThread(tmp_path, poll_times=QUICK)
    workshop.lists, workshop.faults["submit"] = False, ["answer lost"]
    workshop.during["reconcile"] = lambda: thread.journal._database.execute("DROP TABLE jobs") and None
    with pytest.raises(WanDuetError):
        buy(thread, order(), workshop).done.result(5)
    thread.close()


def test_what_was_never_sent_is_closed_at_the_next_start_and_may_be_ordered_again(
    tmp_path: Path, workshop: Workshop, order: Make
) -> None:
    first = RemoteThread(tmp_path, poll_times=QUICK)
    left = first.journal.begin(
        order(), "0badcafe", first._owner, reuse=True, resubmit=False, allow=lambda spent: None, since=0.0
    )
    first.close()
    second = RemoteThread(tmp_path, poll_times=QUICK)
    assert second.resume([workshop]) == []
    assert second.journal.job(left.job_id).state == "failed"
    assert buy(second, order(), workshop).done.result(5).job_id != left.job_id
    second.close()


def test_a_second_process_leaves_the_jobs_of_a_living_one_alone(
    thread: RemoteThread, workshop: Workshop, order: Make, tmp_path: Path
) -> None:
    workshop.looks = 10**6
    ticket = buy(thread, order(), workshop)
    until(lambda: workshop.made)
    other = RemoteThread(tmp_path, poll_times=QUICK)
    assert other.resume([workshop]) == []
    other.close()
    ticket.stop()


def test_fifty_jobs_at_once_all_arrive_and_move_few_files_at_a_time(
    thread: RemoteThread, workshop: Workshop, order: Make
) -> None:
    at_once, most = 0, 0

    def uploading(order: Order) -> Prepare:
        async def prepare() -> dict:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0.02)
            at_once -= 1
            return dict(order.payload)

        return prepare

    orders = [order(prompt=str(number)) for number in range(50)]
    tickets = [buy(thread, one, workshop, prepare=uploading(one)) for one in orders]
    files = {ticket.done.result(20).file for ticket in tickets}
    assert len(files) == len(workshop.made) == 50
    assert None not in files
    assert most == 4
