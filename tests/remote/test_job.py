"""What a job promises: one purchase whatever goes wrong, a stop that is passed on, a result that is kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from wan_duet.pipelines.errors import (
    AmbiguousError,
    JobFailedError,
    JobLostError,
    JobStoppedError,
    MediaError,
    NotAcceptedError,
    RefusedError,
    RemoteError,
    UnreachableError,
)
from wan_duet.pipelines.remote.job import carry_out
from wan_duet.pipelines.remote.job_context import JobContext
from wan_duet.pipelines.remote.job_event import JobEvent
from wan_duet.pipelines.remote.job_record import Job, Order
from wan_duet.pipelines.remote.owner_lock import OwnerLock
from wan_duet.pipelines.remote.spending_limits import SpendingLimits, begin_job

from .workshop import FILM, JOB_POINTS, Workshop, broken, gone, silent

Make = Callable[..., Order]


def run(
    order: Order, context: JobContext, told: list[JobEvent] | None = None, *, resubmit: bool = False
) -> Job:
    """Admit the order and carry it out, as a node does."""
    job = begin_job(order, context, SpendingLimits(), reuse=True, resubmit=resubmit)
    try:
        return asyncio.run(go_on(job, context, order, [] if told is None else told))
    except AmbiguousError:
        context.journal.note_told(job.job_id)
        raise


async def go_on(job: Job, context: JobContext, order: Order | None, told: list[JobEvent]) -> Job:
    if job.state == "done":
        return job

    async def prepare() -> dict:
        assert order is not None
        return dict(order.payload)

    return await carry_out(job.job_id, context, on_event=told.append, prepare=prepare if order else None)


def resume(context: JobContext) -> Job:
    """What the next start does with the one job there is."""
    (job,) = context.journal.jobs()
    return asyncio.run(go_on(job, context, None, []))


def the_row(context: JobContext) -> Job:
    (job,) = context.journal.jobs()
    return job


# ---- when all goes well


def test_a_job_ends_as_a_file_with_its_receipt(context: JobContext, workshop: Workshop, order: Make) -> None:
    told: list[JobEvent] = []
    job = run(order(), context, told)
    assert job.file is not None
    assert job.file.name == "film.mp4"
    assert job.file.read_bytes() == FILM
    receipt = json.loads(job.file.with_suffix(".json").read_text())
    assert receipt["runner"] == "fal"
    assert receipt["kind"] == "text-to-video"
    assert receipt["seed"] == 7
    assert receipt["job"]["request_id"] == job.request_id == "request-1"
    assert receipt["job"]["sent"] == {"prompt": "a red ball", "seed": 7}
    assert receipt["price"]["estimate_usd"] == 0.05
    assert (job.state, job.money, len(workshop.made)) == ("done", "spent", 1)
    steps = [event.step for event in told]
    assert steps == ["preparing", "sending", "queued", "running", "downloading"]
    assert told[2].text() == "queued #0 · 00:00 · about $0.05, from $0.04 to $0.06"
    assert "step 2" in told[3].text()


def test_a_receipt_holds_no_address_under_which_an_upload_can_be_read(
    context: JobContext, order: Make
) -> None:
    async def prepare() -> dict:
        return {"prompt": "a red ball", "seed": 7, "image_url": "https://files.test/private.png"}

    wanted = order(image_url="sha256:00")
    job = begin_job(wanted, context, SpendingLimits(), reuse=True, resubmit=False)
    done = asyncio.run(carry_out(job.job_id, context, on_event=lambda event: None, prepare=prepare))
    assert done.file is not None
    receipt = done.file.with_suffix(".json").read_text()
    assert "private.png" not in receipt
    assert json.loads(receipt)["job"]["sent"]["image_url"] == "sha256:00"


def test_the_same_order_again_is_served_from_the_file(
    context: JobContext, workshop: Workshop, order: Make
) -> None:
    first = run(order(), context)
    again = run(order(), context)
    assert again == first
    assert len(workshop.made) == 1


def test_a_file_of_the_user_is_never_replaced(context: JobContext, order: Make) -> None:
    wished = order().out
    wished.parent.mkdir()
    wished.write_text("mine")
    (wished.parent / "other.json").write_text("mine")
    first, second = (
        run(order(), context),
        run(replace(order("x"), out=wished.with_name("other.mp4")), context),
    )
    assert wished.read_text() == (wished.parent / "other.json").read_text() == "mine"
    for job in (first, second):
        assert job.file is not None
        assert job.job_id[:8] in job.file.name


def test_the_suffix_is_that_of_what_arrives(context: JobContext, order: Make) -> None:
    job = run(replace(order(), out=order().out.with_suffix(".png")), context)
    assert job.file is not None
    assert job.file.suffix == ".mp4"


# ---- submit


def test_a_lost_answer_is_looked_for_and_not_asked_again(
    context: JobContext, workshop: Workshop, order: Make
) -> None:
    workshop.faults["submit"] = ["answer lost"]
    assert run(order(), context).state == "done"
    assert workshop.calls.count("submit") == len(workshop.made) == 1


def test_without_a_list_a_lost_answer_is_for_the_user_to_decide(
    context: JobContext, workshop: Workshop, order: Make
) -> None:
    workshop.lists = False
    workshop.faults["submit"] = ["answer lost"]
    for _ in range(3):  # pressing Run again buys nothing
        with pytest.raises(AmbiguousError, match=r"up to \$0\.06") as caught:
            run(order(), context)
        assert caught.value.money == "may have been spent"
    assert len(workshop.made) == 1
    assert the_row(context).state == "unknown"
    assert run(order(), context, resubmit=True).state == "done"
    assert len(workshop.made) == 2


def test_a_request_that_never_arrived_is_not_sent_again_by_itself(
    context: JobContext, workshop: Workshop, order: Make
) -> None:
    workshop.faults["submit"] = [AmbiguousError("reset", provider="fal")]
    with pytest.raises(AmbiguousError, match="lists no such request, or not yet"):
        run(order(), context)
    assert workshop.made == {}
    assert run(order(), context, resubmit=True).state == "done"


def test_resubmit_that_was_on_before_the_answer_was_lost_buys_nothing(
    context: JobContext, workshop: Workshop, order: Make
) -> None:
    workshop.faults["submit"], workshop.faults["reconcile"] = ["answer lost"], [silent()]
    with pytest.raises(AmbiguousError):
        run(order(), context, resubmit=True)
    assert len(workshop.made) == 1


def test_the_job_of_another_row_is_not_taken_for_the_lost_one(
    context: JobContext, workshop: Workshop, order: Make
) -> None:
    run(order(), context)
    workshop.faults["submit"] = [AmbiguousError("reset", provider="fal")]
    job = begin_job(order(), context, SpendingLimits(), reuse=False, resubmit=False)
    with pytest.raises(AmbiguousError, match="cannot say"):
        asyncio.run(go_on(job, context, order(), []))


@pytest.mark.parametrize(
    "error",
    [
        NotAcceptedError("busy", provider="fal"),
        RefusedError("too long", provider="fal", field="prompt"),
    ],
)
def test_what_was_surely_not_taken_costs_nothing_and_may_be_asked_again(
    context: JobContext, workshop: Workshop, order: Make, error: RemoteError
) -> None:
    workshop.faults["submit"] = [error]
    with pytest.raises(type(error)):
        run(order(), context)
    row = the_row(context)
    assert (row.state, row.money) == ("failed", "none spent")
    assert context.journal.spent(0.0).usd == 0
    assert run(order(), context).state == "done"
    assert len(workshop.made) == 1


def test_a_fault_of_ours_during_the_submit_counts_as_a_lost_answer(
    context: JobContext, workshop: Workshop, order: Make
) -> None:
    workshop.faults["submit"] = [ZeroDivisionError()]
    with pytest.raises(ZeroDivisionError):
        run(order(), context)
    assert the_row(context).state == "unknown"


def test_the_row_is_on_disk_before_the_request_leaves(
    context: JobContext, workshop: Workshop, order: Make
) -> None:
    seen: list[Job] = []
    workshop.during["submit"] = lambda: seen.append(the_row(context))
    run(order(), context)
    assert [row.state for row in seen] == ["submitting"]
    assert seen[0].money == "may have been spent"
    assert json.loads(seen[0].sent_json or "") == {"prompt": "a red ball", "seed": 7}


def test_an_upload_that_fails_costs_nothing(context: JobContext, workshop: Workshop, order: Make) -> None:
    async def prepare() -> dict:
        raise MediaError("cannot read dog.png")

    job = begin_job(order(), context, SpendingLimits(), reuse=True, resubmit=False)
    with pytest.raises(MediaError):
        asyncio.run(carry_out(job.job_id, context, on_event=lambda event: None, prepare=prepare))
    row = the_row(context)
    assert (row.state, row.error, workshop.calls) == ("failed", "cannot read dog.png", [])


# ---- waiting


@pytest.mark.parametrize("call", ["status", "result", "download"])
def test_no_answer_about_a_job_never_buys_another(
    context: JobContext, workshop: Workshop, order: Make, call: str
) -> None:
    workshop.faults[call] = [silent(), silent()]
    try:
        job = run(order(), context)
    except UnreachableError:
        assert call == "download"
        with pytest.raises(UnreachableError):
            resume(context)
        job = resume(context)
    assert job.state == "done"
    assert len(workshop.made) == 1


def test_a_failed_job_says_why_and_stays_failed(context: JobContext, workshop: Workshop, order: Make) -> None:
    workshop.faults["result"] = [broken()]
    with pytest.raises(JobFailedError, match="ran out of memory") as caught:
        run(order(), context)
    assert caught.value.request_id == "request-1"
    assert the_row(context).state == "failed"
    with pytest.raises(JobFailedError, match="ran out of memory"):
        resume(context)


def away() -> RemoteError:
    return RemoteError("403", provider="fal", money="may have been spent")


@pytest.mark.parametrize("call", ["status", "result", "download"])
@pytest.mark.parametrize("fault", [gone, silent, away])
def test_what_cannot_be_had_for_a_minute_is_waited_for(
    context: JobContext, workshop: Workshop, order: Make, call: str, fault: Callable[[], RemoteError]
) -> None:
    if call == "download" and fault is not gone:
        return  # these leave the job open at once: the download has tried several times itself
    workshop.faults[call] = [fault() for _ in range(10)]
    assert run(order(), context).state == "done"
    assert len(workshop.made) == 1


@pytest.mark.parametrize("call", ["result", "download"])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_what_cannot_be_had_stays_open_and_the_next_equal_request_looks_again(
    context: JobContext, workshop: Workshop, order: Make, call: str, elsewhere: bool
) -> None:
    workshop.faults[call] = [gone() for _ in range(1000)]
    with pytest.raises(UnreachableError, match=r"stays open.*jobs attach") as caught:
        run(order(), context)
    assert caught.value.money == "spent" or call == "result"
    assert the_row(context).is_open
    assert not order().out.exists()  # nothing lies under the wished name that looks like a film
    workshop.faults[call].clear()
    again = replace(order(), out=order().out.with_name("other.mp4")) if elsewhere else order()
    job = run(again, context)
    assert job.file == again.out
    assert len(workshop.made) == 1


def test_once_the_provider_need_not_keep_it_what_cannot_be_had_is_lost(
    context: JobContext, workshop: Workshop, order: Make
) -> None:
    workshop.faults["result"] = [gone() for _ in range(1000)]
    with pytest.raises(UnreachableError):
        run(order(), context)
    context.clock.time += 2 * 3600  # type: ignore[attr-defined] - the machine was off
    with pytest.raises(JobLostError, match="request-1 on fal's site") as caught:
        resume(context)
    assert caught.value.money == the_row(context).money == "spent"
    workshop.faults["result"].clear()
    context.journal.reopen(the_row(context).job_id)
    assert resume(context).state == "done"


@pytest.mark.parametrize("hours", [-2, 2])
@pytest.mark.parametrize("call", ["status", "result", "download"])
def test_a_clock_that_is_put_right_loses_nothing(
    context: JobContext, workshop: Workshop, order: Make, call: str, hours: int
) -> None:
    def put_right() -> None:
        if workshop.calls.count(call) == 1:
            context.clock.time += hours * 3600  # type: ignore[attr-defined]

    workshop.during[call] = put_right
    workshop.faults[call] = (
        [None, *(gone() for _ in range(1000))] if call == "status" else [gone() for _ in range(1000)]
    )
    with pytest.raises(UnreachableError):
        run(order(), context)
    assert the_row(context).is_open
    assert "cancel" not in workshop.calls


def test_a_job_that_the_provider_never_showed_is_looked_for_as_long_as_it_keeps_results(
    context: JobContext, workshop: Workshop, order: Make
) -> None:
    workshop.during["status"] = workshop.made.clear
    with pytest.raises(UnreachableError):
        run(order(), context)
    assert (the_row(context).state, the_row(context).money) == ("submitted", "may have been spent")
    context.clock.time += 2 * 3600  # type: ignore[attr-defined]
    with pytest.raises(JobLostError):
        resume(context)
    assert (the_row(context).state, the_row(context).money) == ("lost", "may have been spent")


def test_a_key_that_is_no_longer_valid_leaves_the_job_open(
    context: JobContext, workshop: Workshop, order: Make
) -> None:
    workshop.faults["status"] = [away() for _ in range(1000)]
    with pytest.raises(RemoteError, match=r"403.*stays open") as caught:
        run(order(), context)
    assert type(caught.value) is RemoteError
    assert the_row(context).state == "submitted"
    workshop.faults["status"].clear()
    assert resume(context).state == "done"


def test_a_job_that_takes_long_is_reported_once_and_goes_on(
    context: JobContext, workshop: Workshop, order: Make
) -> None:
    workshop.looks, told = 200, []
    assert run(order(), context, told).state == "done"
    (late,) = [event for event in told if "takes longer than 10 minutes" in (event.log_line or "")]
    assert "is billed" in (late.log_line or "")
    assert "cancel" not in workshop.calls


def test_a_job_that_takes_long_is_cancelled_where_the_user_has_set_that(
    context: JobContext, workshop: Workshop, order: Make
) -> None:
    workshop.looks = 10_000
    context = replace(context, poll_times=replace(context.poll_times, cancel_late=True))
    with pytest.raises(JobStoppedError):
        run(order(), context)
    assert workshop.made["request-1"].cancelled
    assert the_row(context).state == "cancelled"


@pytest.mark.parametrize("cancel_late", [True, False])
def test_a_job_that_the_user_attaches_to_has_no_deadline(
    context: JobContext, workshop: Workshop, order: Make, cancel_late: bool
) -> None:
    workshop.faults["status"] = [away() for _ in range(100)]
    with pytest.raises(RemoteError, match="403"):
        run(order(), context)
    workshop.faults["status"].clear()
    workshop.looks = 200
    context.clock.time += 2 * 3600  # type: ignore[attr-defined]
    assert resume(replace(context, poll_times=replace(context.poll_times, cancel_late=cancel_late))).file
    assert "cancel" not in workshop.calls


def test_a_night_without_this_machine_does_not_cancel_what_is_finished(
    context: JobContext, workshop: Workshop, order: Make
) -> None:
    workshop.faults["status"] = [away() for _ in range(1000)]
    with pytest.raises(RemoteError):
        run(order(), context)
    workshop.faults["status"].clear()
    workshop.made["request-1"].looks = 10
    context.clock.time += 9 * 3600  # type: ignore[attr-defined]
    assert resume(context).state == "done"
    assert "cancel" not in workshop.calls


@pytest.mark.parametrize("hours", [-2, 2])
@pytest.mark.parametrize("point", JOB_POINTS)
def test_a_clock_that_jumps_at_any_point_neither_cancels_nor_delays_a_job(
    context: JobContext, workshop: Workshop, order: Make, point: str, hours: int
) -> None:
    passed = []

    def jump(reached: str) -> None:
        if reached == point and not passed:
            passed.append(reached)
            context.clock.time += hours * 3600  # type: ignore[attr-defined]

    workshop.looks = 3
    hasty = replace(
        context.poll_times, cancel_late=True
    )  # a deadline of ten minutes by the clock would cancel it
    assert run(order(), replace(context, at=jump, poll_times=hasty)).state == "done"
    assert passed == [point]
    assert len(workshop.made) == 1
    assert "cancel" not in workshop.calls
    assert context.clock.slept < 60  # type: ignore[attr-defined]


def test_a_clock_that_is_put_forward_cancels_nothing(
    context: JobContext, workshop: Workshop, order: Make
) -> None:
    def put_forward() -> None:
        context.clock.time += 3 * 3600  # type: ignore[attr-defined]

    workshop.looks, workshop.during["status"] = 3, put_forward
    assert run(order(), context).state == "done"
    assert "cancel" not in workshop.calls


def test_a_clock_that_is_put_back_delays_nothing(
    context: JobContext, workshop: Workshop, order: Make
) -> None:
    def put_back(number: int) -> None:
        context.clock.time -= 3 * 3600  # type: ignore[attr-defined]

    workshop.looks = 3
    context.clock.at_sleep = put_back  # type: ignore[attr-defined]
    assert run(order(), context).state == "done"
    assert context.clock.slept < 60  # type: ignore[attr-defined]


# ---- stop


def impatient(context: JobContext) -> JobContext:
    return replace(context, poll_times=replace(context.poll_times, look=0.01))


def stop_when(context: JobContext, workshop: Workshop, call: str) -> None:
    workshop.during[call] = lambda: context.journal.ask_to_stop(the_row(context).job_id)


@pytest.mark.parametrize("call", ["submit", "status"])
def test_a_stop_reaches_the_provider(context: JobContext, workshop: Workshop, order: Make, call: str) -> None:
    workshop.looks = 3
    stop_when(context, workshop, call)
    with pytest.raises(JobStoppedError):
        run(order(), context)
    assert workshop.made["request-1"].cancelled
    assert the_row(context).state == "cancelled"


@pytest.mark.parametrize("before", [True, False])
def test_a_stop_before_the_submit_sends_nothing(
    context: JobContext, workshop: Workshop, order: Make, before: bool
) -> None:
    async def endless() -> dict:
        context.journal.ask_to_stop(the_row(context).job_id)
        await asyncio.Event().wait()
        return {}

    job = begin_job(order(), context, SpendingLimits(), reuse=True, resubmit=False)
    if before:
        context.journal.ask_to_stop(job.job_id)
    with pytest.raises(JobStoppedError):
        asyncio.run(carry_out(job.job_id, impatient(context), on_event=lambda event: None, prepare=endless))
    assert workshop.calls == []
    assert (the_row(context).state, the_row(context).money) == ("cancelled", "none spent")


def test_a_cancel_that_is_refused_leaves_no_job_alone(
    context: JobContext, workshop: Workshop, order: Make
) -> None:
    workshop.looks = 3
    workshop.faults["cancel"] = [RemoteError("403", provider="fal", money="may have been spent")]
    stop_when(context, workshop, "submit")
    assert run(order(), context).file is not None
    assert workshop.calls.count("cancel") == len(workshop.made) == 1


def test_a_stop_does_not_wait_for_an_answer_about_the_job(
    context: JobContext, workshop: Workshop, order: Make
) -> None:
    workshop.looks = 10
    workshop.stalls["status"] = 1
    stop_when(context, workshop, "status")
    job = begin_job(order(), context, SpendingLimits(), reuse=True, resubmit=False)
    with pytest.raises(JobStoppedError):
        asyncio.run(asyncio.wait_for(go_on(job, impatient(context), order(), []), 5))
    assert workshop.calls == ["submit", "status", "cancel", "status"]


@pytest.mark.parametrize("answer", ["too late", "not offered"])
def test_a_result_that_was_finished_anyway_is_kept(
    context: JobContext, workshop: Workshop, order: Make, answer: str
) -> None:
    workshop.cancels = answer  # type: ignore[assignment]
    stop_when(context, workshop, "status")
    job = run(order(), context)
    assert job.file is not None
    assert workshop.calls.count("cancel") == 1


def test_a_job_that_cannot_be_cancelled_is_the_job_of_the_next_run(
    context: JobContext, workshop: Workshop, order: Make
) -> None:
    workshop.cancels = "not offered"
    workshop.faults["status"] = [None, *(away() for _ in range(1000))]
    stop_when(context, workshop, "submit")
    with pytest.raises(RemoteError, match="403"):
        run(order(), context)
    workshop.faults["status"].clear()
    assert run(order(), context).state == "done"
    assert len(workshop.made) == 1


def test_a_stop_does_not_end_a_download(context: JobContext, workshop: Workshop, order: Make) -> None:
    stop_when(context, workshop, "download")
    assert run(order(), context).file is not None


def test_a_cancel_without_an_answer_is_repeated(context: JobContext, workshop: Workshop, order: Make) -> None:
    workshop.looks = 5
    workshop.faults["cancel"] = [silent(), silent()]
    stop_when(context, workshop, "submit")
    with pytest.raises(JobStoppedError):
        run(order(), context)
    assert workshop.calls.count("cancel") == 3


# ---- after a restart


def test_what_was_not_sent_is_not_sent_without_its_user(
    context: JobContext, workshop: Workshop, order: Make
) -> None:
    begin_job(order(), context, SpendingLimits(), reuse=True, resubmit=False)
    with pytest.raises(JobFailedError, match="before anything was sent"):
        resume(context)
    assert workshop.calls == []


def test_a_row_that_was_being_sent_is_looked_for(
    context: JobContext, workshop: Workshop, order: Make
) -> None:
    job = begin_job(order(), context, SpendingLimits(), reuse=True, resubmit=False)
    sent = json.dumps(dict(order().payload))
    context.journal.move(job.job_id, context.owner, "submitting", sent_json=sent, sent_at=context.clock.now())
    asyncio.run(workshop.submit(job.endpoint, order().payload, job_id=job.job_id))
    assert resume(context).state == "done"
    assert len(workshop.made) == 1


def test_a_file_that_arrived_before_the_end_is_not_fetched_again(
    context: JobContext, workshop: Workshop, order: Make, tmp_path: Path
) -> None:
    class Killed(BaseException):
        pass

    def die(point: str) -> None:
        if point == "downloaded":
            raise Killed

    with pytest.raises(Killed):
        run(order(), replace(context, at=die))
    assert the_row(context).state == "completed"
    job = resume(context)
    assert job.file is not None
    assert workshop.calls.count("download") == 1


def test_an_address_that_has_expired_is_asked_for_anew(
    context: JobContext, workshop: Workshop, order: Make
) -> None:
    workshop.faults["download"] = [gone()]
    assert run(order(), context).state == "done"
    assert workshop.calls.count("result") == 2


@pytest.mark.parametrize("answer", [gone, broken])
def test_a_file_that_nobody_needs_to_keep_any_more_is_lost_and_said_to_be_paid(
    context: JobContext, workshop: Workshop, order: Make, answer: Callable[[], RemoteError]
) -> None:
    workshop.faults["download"] = [gone() for _ in range(1000)]
    with pytest.raises(UnreachableError):
        run(order(), context)
    workshop.faults["result"] = [answer() for _ in range(1000)]
    context.clock.time += 2 * 3600  # type: ignore[attr-defined]
    with pytest.raises(JobLostError, match="jobs show") as caught:
        resume(context)
    assert caught.value.money == "spent"
    assert (the_row(context).state, the_row(context).money) == ("lost", "spent")
    assert not list(order().out.parent.iterdir())


def test_a_file_that_the_user_has_deleted_is_not_said_to_be_there(context: JobContext, order: Make) -> None:
    job = run(order(), context)
    assert job.file is not None
    job.file.unlink()
    with pytest.raises(JobLostError, match="moved, changed or deleted"):
        asyncio.run(carry_out(job.job_id, context, on_event=lambda event: None))


def test_a_file_that_the_user_has_deleted_is_fetched_again_and_not_bought_again(
    context: JobContext, workshop: Workshop, order: Make
) -> None:
    first, elsewhere = run(order(), context), order().out.with_name("again.mp4")
    order().out.unlink()
    assert run(replace(order(), out=elsewhere), context).file == elsewhere
    elsewhere.unlink()
    workshop.faults["download"] = [gone() for _ in range(1000)]
    context.clock.time += 2 * 3600  # type: ignore[attr-defined]
    with pytest.raises(JobLostError, match=first.job_id[:8]):
        run(order(), context)
    assert workshop.calls.count("submit") == len(workshop.made) == 1


def test_a_second_process_waits_and_buys_nothing(
    context: JobContext, workshop: Workshop, order: Make, tmp_path: Path
) -> None:
    async def both() -> list[Job]:
        other = replace(context, owner=OwnerLock(tmp_path / "owners"))
        told: list[JobEvent] = []
        jobs = [
            begin_job(order(), at, SpendingLimits(), reuse=True, resubmit=False) for at in (context, other)
        ]
        first = asyncio.ensure_future(go_on(jobs[0], context, order(), []))
        await asyncio.sleep(0)
        second = await go_on(jobs[1], other, order(), told)
        assert told[0].step == "waiting"
        other.owner.retire()
        return [await first, second]

    first, second = asyncio.run(both())
    assert first.file == second.file
    assert len(workshop.made) == workshop.calls.count("download") == 1
