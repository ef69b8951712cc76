"""What a job promises: one purchase whatever goes wrong, a stop that is passed on, a result that is kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import nullcontext
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
from wan_duet.pipelines.remote.desk import Desk
from wan_duet.pipelines.remote.gate import SpendingLimits, admit
from wan_duet.pipelines.remote.job import carry_out
from wan_duet.pipelines.remote.news import News
from wan_duet.pipelines.remote.owner import Owner
from wan_duet.pipelines.remote.record import Job, Order

from .workshop import FILM, Workshop, broken, gone, silent

Make = Callable[..., Order]


def run(order: Order, desk: Desk, told: list[News] | None = None, *, resubmit: bool = False) -> Job:
    """Admit the order and carry it out, as a node does."""
    job = admit(order, desk, SpendingLimits(), reuse=True, resubmit=resubmit)
    try:
        return asyncio.run(go_on(job, desk, order, [] if told is None else told))
    except AmbiguousError:
        desk.journal.note_told(job.job_id)
        raise


async def go_on(job: Job, desk: Desk, order: Order | None, told: list[News]) -> Job:
    if job.state == "done":
        return job

    async def prepare() -> dict:
        assert order is not None
        return dict(order.payload)

    return await carry_out(job.job_id, desk, tell=told.append, prepare=prepare if order else None)


def resume(desk: Desk) -> Job:
    """What the next start does with the one job there is."""
    (job,) = desk.journal.jobs()
    return asyncio.run(go_on(job, desk, None, []))


def the_row(desk: Desk) -> Job:
    (job,) = desk.journal.jobs()
    return job


# ---- when all goes well


def test_a_job_ends_as_a_file_with_its_receipt(desk: Desk, workshop: Workshop, order: Make) -> None:
    told: list[News] = []
    job = run(order(), desk, told)
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
    steps = [news.step for news in told]
    assert steps == ["preparing", "sending", "queued", "running", "downloading"]
    assert told[2].text() == "queued #0 · 00:00 · about $0.05, from $0.04 to $0.06"
    assert "step 2" in told[3].text()


def test_a_receipt_holds_no_address_under_which_an_upload_can_be_read(desk: Desk, order: Make) -> None:
    async def prepare() -> dict:
        return {"prompt": "a red ball", "seed": 7, "image_url": "https://files.test/private.png"}

    wanted = order(image_url="sha256:00")
    job = admit(wanted, desk, SpendingLimits(), reuse=True, resubmit=False)
    done = asyncio.run(carry_out(job.job_id, desk, tell=lambda news: None, prepare=prepare))
    assert done.file is not None
    receipt = done.file.with_suffix(".json").read_text()
    assert "private.png" not in receipt
    assert json.loads(receipt)["job"]["sent"]["image_url"] == "sha256:00"


def test_the_same_order_again_is_served_from_the_file(desk: Desk, workshop: Workshop, order: Make) -> None:
    first = run(order(), desk)
    again = run(order(), desk)
    assert again == first
    assert len(workshop.made) == 1


def test_a_file_of_the_user_is_never_replaced(desk: Desk, order: Make) -> None:
    wished = order().out
    wished.parent.mkdir()
    wished.write_text("mine")
    (wished.parent / "other.json").write_text("mine")
    first, second = run(order(), desk), run(replace(order("x"), out=wished.with_name("other.mp4")), desk)
    assert wished.read_text() == (wished.parent / "other.json").read_text() == "mine"
    for job in (first, second):
        assert job.file is not None
        assert job.job_id[:8] in job.file.name


def test_the_suffix_is_that_of_what_arrives(desk: Desk, order: Make) -> None:
    job = run(replace(order(), out=order().out.with_suffix(".png")), desk)
    assert job.file is not None
    assert job.file.suffix == ".mp4"


# ---- submit


def test_a_lost_answer_is_looked_for_and_not_asked_again(desk: Desk, workshop: Workshop, order: Make) -> None:
    workshop.faults["submit"] = ["answer lost"]
    assert run(order(), desk).state == "done"
    assert workshop.calls.count("submit") == len(workshop.made) == 1


def test_without_a_list_a_lost_answer_is_for_the_user_to_decide(
    desk: Desk, workshop: Workshop, order: Make
) -> None:
    workshop.lists = False
    workshop.faults["submit"] = ["answer lost"]
    for _ in range(3):  # pressing Run again buys nothing
        with pytest.raises(AmbiguousError, match=r"up to \$0\.06") as caught:
            run(order(), desk)
        assert caught.value.money == "may have been spent"
    assert len(workshop.made) == 1
    assert the_row(desk).state == "unknown"
    assert run(order(), desk, resubmit=True).state == "done"
    assert len(workshop.made) == 2


def test_a_request_that_never_arrived_is_not_sent_again_by_itself(
    desk: Desk, workshop: Workshop, order: Make
) -> None:
    workshop.faults["submit"] = [AmbiguousError("reset", provider="fal")]
    with pytest.raises(AmbiguousError, match="most likely nothing was charged"):
        run(order(), desk)
    assert workshop.made == {}
    assert run(order(), desk, resubmit=True).state == "done"


def test_resubmit_that_was_on_before_the_answer_was_lost_buys_nothing(
    desk: Desk, workshop: Workshop, order: Make
) -> None:
    workshop.faults["submit"], workshop.faults["reconcile"] = ["answer lost"], [silent()]
    with pytest.raises(AmbiguousError):
        run(order(), desk, resubmit=True)
    assert len(workshop.made) == 1


def test_the_job_of_another_row_is_not_taken_for_the_lost_one(
    desk: Desk, workshop: Workshop, order: Make
) -> None:
    run(order(), desk)
    workshop.faults["submit"] = [AmbiguousError("reset", provider="fal")]
    job = admit(order(), desk, SpendingLimits(), reuse=False, resubmit=False)
    with pytest.raises(AmbiguousError, match="cannot say"):
        asyncio.run(go_on(job, desk, order(), []))


@pytest.mark.parametrize(
    "error",
    [
        NotAcceptedError("busy", provider="fal"),
        RefusedError("too long", provider="fal", field="prompt"),
    ],
)
def test_what_was_surely_not_taken_costs_nothing_and_may_be_asked_again(
    desk: Desk, workshop: Workshop, order: Make, error: RemoteError
) -> None:
    workshop.faults["submit"] = [error]
    with pytest.raises(type(error)):
        run(order(), desk)
    row = the_row(desk)
    assert (row.state, row.money) == ("failed", "none spent")
    assert desk.journal.spent(0.0).usd == 0
    assert run(order(), desk).state == "done"
    assert len(workshop.made) == 1


def test_a_fault_of_ours_during_the_submit_counts_as_a_lost_answer(
    desk: Desk, workshop: Workshop, order: Make
) -> None:
    workshop.faults["submit"] = [ZeroDivisionError()]
    with pytest.raises(ZeroDivisionError):
        run(order(), desk)
    assert the_row(desk).state == "unknown"


def test_the_row_is_on_disk_before_the_request_leaves(desk: Desk, workshop: Workshop, order: Make) -> None:
    seen: list[Job] = []
    workshop.during["submit"] = lambda: seen.append(the_row(desk))
    run(order(), desk)
    assert [row.state for row in seen] == ["submitting"]
    assert seen[0].money == "may have been spent"
    assert json.loads(seen[0].sent_json or "") == {"prompt": "a red ball", "seed": 7}


def test_an_upload_that_fails_costs_nothing(desk: Desk, workshop: Workshop, order: Make) -> None:
    async def prepare() -> dict:
        raise MediaError("cannot read dog.png")

    job = admit(order(), desk, SpendingLimits(), reuse=True, resubmit=False)
    with pytest.raises(MediaError):
        asyncio.run(carry_out(job.job_id, desk, tell=lambda news: None, prepare=prepare))
    row = the_row(desk)
    assert (row.state, row.error, workshop.calls) == ("failed", "cannot read dog.png", [])


# ---- waiting


@pytest.mark.parametrize("call", ["status", "result", "download"])
def test_no_answer_about_a_job_never_buys_another(
    desk: Desk, workshop: Workshop, order: Make, call: str
) -> None:
    workshop.faults[call] = [silent(), silent()]
    try:
        job = run(order(), desk)
    except UnreachableError:
        assert call == "download"
        with pytest.raises(UnreachableError):
            resume(desk)
        job = resume(desk)
    assert job.state == "done"
    assert len(workshop.made) == 1


def test_a_failed_job_says_why_and_stays_failed(desk: Desk, workshop: Workshop, order: Make) -> None:
    workshop.faults["result"] = [broken()]
    with pytest.raises(JobFailedError, match="ran out of memory") as caught:
        run(order(), desk)
    assert caught.value.request_id == "request-1"
    assert the_row(desk).state == "failed"
    with pytest.raises(JobFailedError, match="ran out of memory"):
        resume(desk)


def test_a_result_that_is_no_longer_kept_is_lost_and_said_to_be_paid(
    desk: Desk, workshop: Workshop, order: Make
) -> None:
    workshop.faults["result"] = [gone()]
    with pytest.raises(JobLostError) as caught:
        run(order(), desk)
    assert caught.value.money == the_row(desk).money == "spent"


def test_a_job_that_the_provider_no_longer_knows_is_lost(desk: Desk, workshop: Workshop, order: Make) -> None:
    workshop.during["status"] = workshop.made.clear
    with pytest.raises(JobLostError):
        run(order(), desk)
    assert (the_row(desk).state, the_row(desk).money) == ("lost", "may have been spent")


@pytest.mark.parametrize(("forgotten", "state"), [(3, "done"), (10_000, "lost")])
def test_a_job_that_was_seen_is_not_given_up_at_once(
    desk: Desk, workshop: Workshop, order: Make, forgotten: int, state: str
) -> None:
    kept: dict = {}

    def forget() -> None:
        looks = workshop.calls.count("status")
        if looks == 2:
            kept.update(workshop.made)
            workshop.made.clear()
        if looks == 2 + forgotten:
            workshop.made.update(kept)

    workshop.looks, workshop.during["status"] = 3, forget
    with nullcontext() if state == "done" else pytest.raises(JobLostError):
        run(order(), desk)
    assert the_row(desk).state == state
    assert desk.clock.slept < 400  # type: ignore[attr-defined]


def test_a_key_that_is_no_longer_valid_leaves_the_job_open(
    desk: Desk, workshop: Workshop, order: Make
) -> None:
    workshop.faults["status"] = [RemoteError("bad key", provider="fal", money="may have been spent")]
    with pytest.raises(RemoteError, match="bad key"):
        run(order(), desk)
    assert the_row(desk).state == "submitted"
    assert resume(desk).state == "done"


def test_a_job_that_takes_too_long_is_cancelled(desk: Desk, workshop: Workshop, order: Make) -> None:
    workshop.looks = 10_000
    with pytest.raises(JobStoppedError):
        run(order(), desk)
    assert workshop.made["request-1"].cancelled
    assert the_row(desk).state == "cancelled"


def test_a_job_that_cannot_be_cancelled_stays_open_when_it_takes_too_long(
    desk: Desk, workshop: Workshop, order: Make
) -> None:
    workshop.looks, workshop.cancels = 10_000, "not offered"
    with pytest.raises(UnreachableError, match="jobs attach"):
        run(order(), desk)
    assert the_row(desk).is_open
    workshop.looks = 1
    assert resume(desk).state == "done"


def test_a_night_without_this_machine_does_not_cancel_what_is_finished(
    desk: Desk, workshop: Workshop, order: Make
) -> None:
    workshop.faults["status"] = [RemoteError("off", provider="fal", money="may have been spent")]
    with pytest.raises(RemoteError):
        run(order(), desk)
    workshop.made["request-1"].looks = 10
    desk.clock.time += 9 * 3600  # type: ignore[attr-defined]
    assert resume(desk).state == "done"
    assert "cancel" not in workshop.calls


def test_a_clock_that_is_put_forward_cancels_nothing(desk: Desk, workshop: Workshop, order: Make) -> None:
    def put_forward() -> None:
        desk.clock.time += 3 * 3600  # type: ignore[attr-defined]

    workshop.looks, workshop.during["status"] = 3, put_forward
    assert run(order(), desk).state == "done"
    assert "cancel" not in workshop.calls


def test_a_clock_that_is_put_back_delays_nothing(desk: Desk, workshop: Workshop, order: Make) -> None:
    def put_back(number: int) -> None:
        desk.clock.time -= 3 * 3600  # type: ignore[attr-defined]

    workshop.looks = 3
    desk.clock.at_sleep = put_back  # type: ignore[attr-defined]
    assert run(order(), desk).state == "done"
    assert desk.clock.slept < 60  # type: ignore[attr-defined]


# ---- stop


def impatient(desk: Desk) -> Desk:
    return replace(desk, patience=replace(desk.patience, look=0.01))


def stop_when(desk: Desk, workshop: Workshop, call: str) -> None:
    workshop.during[call] = lambda: desk.journal.ask_to_stop(the_row(desk).job_id)


@pytest.mark.parametrize("call", ["submit", "status"])
def test_a_stop_reaches_the_provider(desk: Desk, workshop: Workshop, order: Make, call: str) -> None:
    workshop.looks = 3
    stop_when(desk, workshop, call)
    with pytest.raises(JobStoppedError):
        run(order(), desk)
    assert workshop.made["request-1"].cancelled
    assert the_row(desk).state == "cancelled"


@pytest.mark.parametrize("before", [True, False])
def test_a_stop_before_the_submit_sends_nothing(
    desk: Desk, workshop: Workshop, order: Make, before: bool
) -> None:
    async def endless() -> dict:
        desk.journal.ask_to_stop(the_row(desk).job_id)
        await asyncio.Event().wait()
        return {}

    job = admit(order(), desk, SpendingLimits(), reuse=True, resubmit=False)
    if before:
        desk.journal.ask_to_stop(job.job_id)
    with pytest.raises(JobStoppedError):
        asyncio.run(carry_out(job.job_id, impatient(desk), tell=lambda news: None, prepare=endless))
    assert workshop.calls == []
    assert (the_row(desk).state, the_row(desk).money) == ("cancelled", "none spent")


def test_a_cancel_that_is_refused_leaves_no_job_alone(desk: Desk, workshop: Workshop, order: Make) -> None:
    workshop.looks = 3
    workshop.faults["cancel"] = [RemoteError("403", provider="fal", money="may have been spent")]
    stop_when(desk, workshop, "submit")
    assert run(order(), desk).file is not None
    assert workshop.calls.count("cancel") == len(workshop.made) == 1


def test_a_stop_does_not_wait_for_an_answer_about_the_job(
    desk: Desk, workshop: Workshop, order: Make
) -> None:
    workshop.looks = 10
    workshop.stalls["status"] = 1
    stop_when(desk, workshop, "status")
    job = admit(order(), desk, SpendingLimits(), reuse=True, resubmit=False)
    with pytest.raises(JobStoppedError):
        asyncio.run(asyncio.wait_for(go_on(job, impatient(desk), order(), []), 5))
    assert workshop.calls == ["submit", "status", "cancel", "status"]


@pytest.mark.parametrize("answer", ["too late", "not offered"])
def test_a_result_that_was_finished_anyway_is_kept(
    desk: Desk, workshop: Workshop, order: Make, answer: str
) -> None:
    workshop.cancels = answer  # type: ignore[assignment]
    stop_when(desk, workshop, "status")
    job = run(order(), desk)
    assert job.file is not None
    assert workshop.calls.count("cancel") == 1


def test_a_job_that_cannot_be_cancelled_is_the_job_of_the_next_run(
    desk: Desk, workshop: Workshop, order: Make
) -> None:
    workshop.cancels = "not offered"
    workshop.faults["status"] = [None, RemoteError("off", provider="fal", money="may have been spent")]
    stop_when(desk, workshop, "submit")
    with pytest.raises(RemoteError, match="off"):
        run(order(), desk)
    assert run(order(), desk).state == "done"
    assert len(workshop.made) == 1


def test_a_stop_does_not_end_a_download(desk: Desk, workshop: Workshop, order: Make) -> None:
    stop_when(desk, workshop, "download")
    assert run(order(), desk).file is not None


def test_a_cancel_without_an_answer_is_repeated(desk: Desk, workshop: Workshop, order: Make) -> None:
    workshop.looks = 5
    workshop.faults["cancel"] = [silent(), silent()]
    stop_when(desk, workshop, "submit")
    with pytest.raises(JobStoppedError):
        run(order(), desk)
    assert workshop.calls.count("cancel") == 3


# ---- after a restart


def test_what_was_not_sent_is_not_sent_without_its_user(desk: Desk, workshop: Workshop, order: Make) -> None:
    admit(order(), desk, SpendingLimits(), reuse=True, resubmit=False)
    with pytest.raises(JobFailedError, match="before anything was sent"):
        resume(desk)
    assert workshop.calls == []


def test_a_row_that_was_being_sent_is_looked_for(desk: Desk, workshop: Workshop, order: Make) -> None:
    job = admit(order(), desk, SpendingLimits(), reuse=True, resubmit=False)
    sent = json.dumps(dict(order().payload))
    desk.journal.move(job.job_id, desk.owner, "submitting", sent_json=sent, sent_at=desk.clock.now())
    asyncio.run(workshop.submit(job.endpoint, order().payload, job_id=job.job_id))
    assert resume(desk).state == "done"
    assert len(workshop.made) == 1


def test_a_file_that_arrived_before_the_end_is_not_fetched_again(
    desk: Desk, workshop: Workshop, order: Make, tmp_path: Path
) -> None:
    class Killed(BaseException):
        pass

    def die(point: str) -> None:
        if point == "downloaded":
            raise Killed

    with pytest.raises(Killed):
        run(order(), replace(desk, at=die))
    assert the_row(desk).state == "completed"
    job = resume(desk)
    assert job.file is not None
    assert workshop.calls.count("download") == 1


def test_an_address_that_has_expired_is_asked_for_anew(desk: Desk, workshop: Workshop, order: Make) -> None:
    workshop.faults["download"] = [gone()]
    assert run(order(), desk).state == "done"
    assert workshop.calls.count("result") == 2


def test_a_file_that_nobody_has_any_more_is_lost_and_said_to_be_paid(
    desk: Desk, workshop: Workshop, order: Make
) -> None:
    workshop.faults["download"] = [gone(), gone()]
    with pytest.raises(JobLostError) as caught:
        run(order(), desk)
    assert caught.value.money == "spent"
    assert (the_row(desk).state, the_row(desk).money) == ("lost", "spent")


def test_a_file_that_the_user_has_deleted_is_not_said_to_be_there(desk: Desk, order: Make) -> None:
    job = run(order(), desk)
    assert job.file is not None
    job.file.unlink()
    with pytest.raises(JobLostError, match="moved, changed or deleted"):
        asyncio.run(carry_out(job.job_id, desk, tell=lambda news: None))


def test_a_provider_that_forgets_the_result_with_the_file_leaves_nothing_to_wait_for(
    desk: Desk, workshop: Workshop, order: Make
) -> None:
    workshop.faults["download"], workshop.faults["result"] = [gone()], [None, broken("expired")]
    with pytest.raises(JobFailedError):
        run(order(), desk)
    assert the_row(desk).state == "lost"
    assert not list(order().out.parent.iterdir())


def test_a_second_process_waits_and_buys_nothing(
    desk: Desk, workshop: Workshop, order: Make, tmp_path: Path
) -> None:
    async def both() -> list[Job]:
        other = replace(desk, owner=Owner(tmp_path / "owners"))
        told: list[News] = []
        jobs = [admit(order(), at, SpendingLimits(), reuse=True, resubmit=False) for at in (desk, other)]
        first = asyncio.ensure_future(go_on(jobs[0], desk, order(), []))
        await asyncio.sleep(0)
        second = await go_on(jobs[1], other, order(), told)
        assert told[0].step == "waiting"
        other.owner.retire()
        return [await first, second]

    first, second = asyncio.run(both())
    assert first.file == second.file
    assert len(workshop.made) == workshop.calls.count("download") == 1
