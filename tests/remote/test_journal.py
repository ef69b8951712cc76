"""What the journal promises: on disk before money is spent, bought once, owned by one, readable for ever."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan_duet.pipelines.errors import JournalError, SpendingError
from wan_duet.pipelines.remote.job_record import FOLLOWS, OPEN, Job, Order, outcome_json
from wan_duet.pipelines.remote.journal import Journal, Spent
from wan_duet.pipelines.remote.owner_lock import OwnerLock
from wan_duet.pipelines.remote.provider import Outcome, RemoteFile, Submitted
from wan_duet.pipelines.remote.schema import MIGRATIONS, bring_up_to_date
from wan_duet.pipelines.request.prices import Price

Make = Callable[..., Order]
Begin = Callable[..., Job]
FREE = Price(None, None, None, "nobody knows")


def bring_to(journal: Journal, job: Job, owner: OwnerLock, *states: str, **columns: object) -> Job:
    for state in states:
        job = journal.move(job.job_id, owner, state, **(columns if state == states[-1] else {}))
    return job


def test_an_open_job_with_the_same_payload_is_the_job(order: Make, begin: Begin) -> None:
    first = begin(order())
    assert begin(order()).job_id == first.job_id
    assert begin(order(prompt="a blue ball")).job_id != first.job_id
    assert begin(order(), account="another0").job_id != first.job_id


def test_the_order_of_keys_does_not_make_another_payload(order: Make, begin: Begin) -> None:
    one = order()
    other = replace(one, payload=dict(reversed(one.payload.items())))
    assert begin(one).job_id == begin(other).job_id


@pytest.mark.parametrize(
    ("content", "reuse", "state"),
    [
        (b"film", True, "done"),
        (b"film", False, "intent"),
        (b"cut", True, "completed"),
        (b"cut", False, "intent"),
    ],
)
def test_a_finished_job_is_given_again_with_reuse_and_fetched_again_unless_its_file_is_whole(
    journal: Journal,
    owner: OwnerLock,
    order: Make,
    begin: Begin,
    tmp_path: Path,
    content: bytes,
    reuse: bool,
    state: str,
) -> None:
    file = tmp_path / "film.mp4"
    file.write_bytes(content)
    steps = ("submitting", "submitted", "completed", "done")
    done = bring_to(journal, begin(order()), owner, *steps, file_path=str(file), size_bytes=4)
    job = begin(order(), reuse=reuse)
    assert job.state == state
    assert (job.job_id == done.job_id) is reuse


def test_a_job_that_is_being_stopped_at_the_provider_is_not_the_job_of_a_new_run(
    journal: Journal, owner: OwnerLock, order: Make, begin: Begin
) -> None:
    first = bring_to(journal, begin(order()), owner, "submitting", "submitted", request_id="r")
    journal.ask_to_stop(first.job_id)
    assert begin(order()).job_id != first.job_id


def test_a_job_that_could_not_be_stopped_and_that_nobody_works_on_is_not_bought_again(
    journal: Journal, owner: OwnerLock, order: Make, begin: Begin
) -> None:
    first = bring_to(journal, begin(order()), owner, "submitting", "submitted", request_id="r")
    journal.ask_to_stop(first.job_id)
    journal.release(first.job_id, owner)
    assert begin(order()).job_id == first.job_id
    assert not journal.job(first.job_id).stop_asked


def test_running_again_takes_back_a_stop_that_was_not_passed_on(
    journal: Journal, order: Make, begin: Begin
) -> None:
    first = begin(order())
    journal.ask_to_stop(first.job_id)
    assert begin(order()).job_id == first.job_id
    assert not journal.job(first.job_id).stop_asked


def test_a_job_of_unknown_fate_is_bought_anew_only_by_a_user_who_was_told(
    journal: Journal, owner: OwnerLock, order: Make, begin: Begin
) -> None:
    first = bring_to(journal, begin(order()), owner, "submitting", "unknown", money="may have been spent")
    journal.release(first.job_id, owner)
    assert begin(order(), resubmit=True).job_id == first.job_id
    journal.claim(first.job_id, owner)
    journal.note(first.job_id, owner, told=True)
    assert begin(order(), resubmit=True).job_id == first.job_id, "somebody is looking for it"
    journal.release(first.job_id, owner)
    assert begin(order()).job_id == first.job_id
    assert begin(order(), resubmit=True).job_id != first.job_id
    assert journal.job(first.job_id).state == "failed"
    assert journal.spent(0.0) == Spent(0.12, 0), "what may have been spent still counts"


def test_resubmit_buys_nothing_while_a_job_is_known_to_run(
    journal: Journal, owner: OwnerLock, order: Make, begin: Begin
) -> None:
    first = bring_to(journal, begin(order()), owner, "submitting", "submitted", request_id="r")
    assert begin(order(), resubmit=True).job_id == first.job_id


def test_no_row_is_left_by_an_order_that_the_gate_refuses(
    journal: Journal, order: Make, begin: Begin
) -> None:
    def refuse(spent: Spent) -> None:
        raise SpendingError("too much", provider="fal")

    with pytest.raises(SpendingError):
        begin(order(), allow=refuse)
    assert journal.jobs() == []


def test_threads_that_order_together_never_go_over_the_limit_together(
    journal: Journal, order: Make, begin: Begin
) -> None:
    def at_most_three(spent: Spent) -> None:
        if spent.usd + 0.06 > 0.18 + 1e-9:
            raise SpendingError("too much", provider="fal")

    def buy(number: int) -> None:
        try:
            begin(order(prompt=str(number)), allow=at_most_three)
        except SpendingError:
            refused.append(number)

    refused: list[int] = []
    threads = [threading.Thread(target=buy, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(journal.jobs()) == 3
    assert len(refused) == 5


def test_a_charge_replaces_the_estimate_and_what_was_never_sent_costs_nothing(
    journal: Journal, owner: OwnerLock, order: Make, begin: Begin
) -> None:
    bring_to(
        journal,
        begin(order(prompt="charged")),
        owner,
        *("submitting", "submitted", "completed"),
        money="spent",
        charged=0.031,
    )
    bring_to(journal, begin(order(prompt="refused")), owner, "submitting", "failed")
    begin(order(prompt="open"))
    begin(order(prompt="unknown", price=FREE))
    assert journal.spent(0.0) == Spent(pytest.approx(0.091), 1)
    assert journal.spent(2_000_000_000.0) == Spent(0, 0)


def test_only_one_owner_works_on_a_job(
    journal: Journal, owner: OwnerLock, order: Make, begin: Begin, tmp_path: Path
) -> None:
    job = begin(order())
    other = OwnerLock(tmp_path / "owners")
    assert not journal.claim(job.job_id, other)
    with pytest.raises(JournalError, match="worked on by"):
        journal.move(job.job_id, other, "submitting")
    assert journal.job(job.job_id).state == "intent"
    journal.release(job.job_id, other)
    assert not journal.claim(job.job_id, other)
    journal.release(job.job_id, owner)
    assert journal.claim(job.job_id, other)
    other.retire()


def test_the_jobs_of_a_killed_process_are_free_at_once(
    journal: Journal, owner: OwnerLock, order: Make, begin: Begin, tmp_path: Path
) -> None:
    job = begin(order())
    journal.release(job.job_id, owner)
    code = """
import sys, time
from pathlib import Path
from wan_duet.pipelines.remote.journal import Journal
from wan_duet.pipelines.remote.owner_lock import OwnerLock
folder = Path(sys.argv[1])
owner = OwnerLock(folder / "owners")
assert Journal(folder / "jobs.sqlite", time.time).claim(sys.argv[2], owner)
print("claimed", flush=True)
sys.stdin.read()
"""
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), job.job_id],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "claimed\n"
    assert not journal.claim(job.job_id, owner)
    other.kill()
    other.communicate()
    assert journal.claim(job.job_id, owner)


@pytest.mark.parametrize("state", sorted(set(FOLLOWS)))
def test_a_state_that_does_not_follow_is_refused(
    journal: Journal, owner: OwnerLock, order: Make, begin: Begin, state: str
) -> None:
    ways = {
        "intent": (),
        "submitting": ("submitting",),
        "unknown": ("submitting", "unknown"),
        "submitted": ("submitting", "submitted"),
        "running": ("submitting", "submitted", "running"),
        "completed": ("submitting", "submitted", "completed"),
    }
    job = bring_to(journal, begin(order()), owner, *ways[state])
    every = {*OPEN, "done", "failed", "cancelled", "lost"}
    for wrong in every - FOLLOWS[job.state]:
        with pytest.raises(JournalError, match=f"from {state} to {wrong}"):
            journal.move(job.job_id, owner, wrong)
    assert journal.job(job.job_id).state == state


def test_two_jobs_never_get_the_same_file(
    journal: Journal, owner: OwnerLock, order: Make, begin: Begin, tmp_path: Path
) -> None:
    one, other = begin(order(prompt="1")), begin(order(prompt="2"))
    assert journal.reserve(one.job_id, owner, tmp_path / "film.mp4")
    assert not journal.reserve(other.job_id, owner, tmp_path / "film.mp4")
    assert journal.reserve(other.job_id, owner, tmp_path / "other.mp4")


def test_contents_and_signed_addresses_are_not_written(journal: Journal, order: Make, begin: Begin) -> None:
    job = begin(
        order(image_url="data:image/png;base64,c2VjcmV0", video_url="https://a.test/v.mp4?token=hush#x")
    )
    for text in ("c2VjcmV0", "hush"):
        assert text not in job.payload_json
        assert text.encode() not in b"".join(
            file.read_bytes() for file in journal.file.parent.glob("jobs.sqlite*")
        )
    assert "https://a.test/v.mp4" in job.payload_json


def test_only_the_user_can_read_the_file(journal: Journal) -> None:
    if sys.platform != "win32":
        assert journal.file.stat().st_mode & 0o077 == 0


def test_a_commit_waits_for_the_disk(journal: Journal) -> None:
    assert journal._database.execute("PRAGMA synchronous").fetchone() == (2,)
    assert journal._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_an_older_journal_is_brought_up_to_date_with_its_jobs(
    journal: Journal, order: Make, begin: Begin
) -> None:
    job = begin(order())
    later = [*MIGRATIONS, "ALTER TABLE jobs ADD COLUMN colour TEXT; UPDATE jobs SET colour = 'red'"]
    with sqlite3.connect(journal.file, isolation_level=None) as database:
        bring_up_to_date(database, "jobs.sqlite", later)
        assert database.execute("SELECT job_id, colour FROM jobs").fetchall() == [(job.job_id, "red")]
        bring_up_to_date(database, "jobs.sqlite", later)


def test_a_migration_that_fails_changes_nothing(journal: Journal, order: Make, begin: Begin) -> None:
    begin(order())
    database = sqlite3.connect(journal.file, isolation_level=None)
    with pytest.raises(sqlite3.OperationalError):
        bring_up_to_date(database, "x", [*MIGRATIONS, "ALTER TABLE jobs ADD COLUMN colour; nonsense"])
    assert database.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    assert len(journal.jobs()) == 1
    database.close()


def test_a_journal_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "new.sqlite"
    with sqlite3.connect(file) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(JournalError, match="update the pack"):
        Journal(file, lambda: 0.0)


def test_a_file_that_is_no_journal_is_refused_in_words(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("buy milk, and other things that are longer than a header of SQLite is" * 9)
    with pytest.raises(JournalError, match=r"notes\.txt"):
        Journal(file, lambda: 0.0)


@pytest.mark.parametrize("damage", ["cut", "overwritten", "zeros"])
def test_a_damaged_journal_is_never_taken_for_an_empty_one(
    journal: Journal, order: Make, begin: Begin, tmp_path: Path, damage: str
) -> None:
    for number in range(20):
        begin(order(prompt=str(number) * 500))
    journal._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = journal.file.read_bytes()
    file = tmp_path / "damaged.sqlite"
    damaged = {"cut": data[: len(data) // 2], "zeros": bytes(len(data))}
    file.write_bytes(damaged.get(damage, data[:8192] + b"\xff" * (len(data) - 8192)))
    with pytest.raises(JournalError, match="Move it away"):
        Journal(file, lambda: 0.0).jobs()


def test_all_who_begin_together_share_one_new_journal(tmp_path: Path, order: Make) -> None:
    """Each with a connection of its own, as processes have."""
    file, together, found = tmp_path / "jobs.sqlite", threading.Barrier(8), []

    def buy() -> None:
        together.wait()
        journal, owner = Journal(file, lambda: 0.0), OwnerLock(tmp_path / "owners")
        choices: Any = {"reuse": True, "resubmit": False, "allow": lambda spent: None, "since": 0.0}
        found.append(journal.begin(order(), "0badcafe", owner, **choices).job_id)
        journal.close()
        owner.retire()

    threads = [threading.Thread(target=buy) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_new_file_that_others_open_at_the_same_moment_is_waited_for(tmp_path: Path) -> None:
    """SQLite does not wait by itself when two switch a file to write-ahead logging."""
    refusals = ["database is locked", "database is locked"]

    class Contended(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            if "journal_mode" in sql and refusals:
                raise sqlite3.OperationalError(refusals.pop())
            return super().execute(sql, *values)

    journal = Journal(tmp_path / "jobs.sqlite", lambda: 0.0, partial(sqlite3.connect, factory=Contended))
    assert refusals == []
    assert journal._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    journal.close()


def test_a_job_is_found_by_its_beginning_and_by_what_the_provider_calls_it(
    journal: Journal, owner: OwnerLock, order: Make, begin: Begin
) -> None:
    job = bring_to(journal, begin(order()), owner, "submitting")
    journal.submitted(job.job_id, owner, Submitted(job.endpoint, "3f1c-request"))
    begin(order(prompt="another"))
    for name in (job.job_id, job.job_id[:8], "3f1c-request"):
        assert journal.find(name).job_id == job.job_id
    with pytest.raises(JournalError, match="2 jobs begin with"):
        journal.find("")


def test_a_job_that_does_not_exist_is_named(journal: Journal) -> None:
    with pytest.raises(JournalError, match="no job nonsense"):
        journal.job("nonsense")


@given(st.text(), st.none() | st.integers(), st.none() | st.floats(allow_nan=False), st.none() | st.text())
def test_an_outcome_comes_back_as_it_was_written(
    url: str, seed: int | None, charged: float | None, prompt: str | None
) -> None:
    outcome = Outcome((RemoteFile(url, None, seed), RemoteFile("b")), seed, prompt, {"x": [url]}, charged)
    row = Job(**dict.fromkeys(Job.__dataclass_fields__))  # type: ignore[arg-type]
    assert replace(row, outcome_json=outcome_json(outcome)).outcome == outcome


def test_the_ids_of_the_provider_come_back(
    journal: Journal, owner: OwnerLock, order: Make, begin: Begin
) -> None:
    job = bring_to(journal, begin(order()), owner, "submitting")
    ids = Submitted(job.endpoint, "r1", "https://s", None, "https://c")
    assert journal.submitted(job.job_id, owner, ids).submitted == ids
    assert journal.has_request("fal", "r1")
    assert not journal.has_request("novita", "r1")
