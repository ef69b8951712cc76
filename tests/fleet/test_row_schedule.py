"""Rows go to workers that have their LoRAs, batches take turns, and a lease that runs out is another's."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from wan_duet.pipelines.errors import (
    AmbiguousError,
    JournalError,
    MediaError,
    NoRoomError,
    NotAcceptedError,
    RefusedError,
    RequestError,
    SpendingError,
    WorkerAbsentError,
    WorkerLostError,
)
from wan_duet.pipelines.fleet.retries import REMEDIES, Cause, FailedAttemptError, cause_of
from wan_duet.pipelines.fleet.row_schedule import OpenRow, RowSchedule

LOCAL = frozenset({"local"})


def rows(*given: tuple[str, float, str]) -> list[OpenRow]:
    """(LoRAs, work, batch) of each row, which is numbered from 1."""
    return [OpenRow(number, key, work, LOCAL, batch) for number, (key, work, batch) in enumerate(given, 1)]


def schedule(open_rows: list[OpenRow], workers: int = 1) -> RowSchedule:
    made = RowSchedule(open_rows)
    for number in range(1, workers + 1):
        made.add_worker(f"w{number}", "local", 10.0)
    return made


def take(made: RowSchedule, worker: str = "w1", now: float = 0.0) -> int:
    row = made.next_for(worker, now)
    assert row is not None
    made.lease(worker, row, 1, now)
    return row.number


def order(made: RowSchedule) -> list[int]:
    """The rows in the order in which one worker does them."""
    found = []
    while not made.is_over:
        found.append(take(made))
        made.drop("w1", found[-1], 1)
    return found


def test_the_longest_row_comes_first_and_equal_ones_in_their_order() -> None:
    assert order(schedule(rows(("", 1, ""), ("", 3, ""), ("", 2, ""), ("", 2, "")))) == [2, 3, 4, 1]


def test_rows_with_the_same_loras_follow_each_other() -> None:
    assert order(schedule(rows(("a", 1, ""), ("b", 9, ""), ("a", 8, ""), ("b", 2, "")))) == [2, 4, 3, 1]


def test_another_worker_leaves_the_loras_that_somebody_has() -> None:
    made = schedule(rows(("a", 9, ""), ("a", 8, ""), ("b", 1, "")), workers=2)
    assert (take(made, "w1"), take(made, "w2")) == (1, 3)
    made.drop("w2", 3, 1)
    assert take(made, "w2") == 2  # better than to do nothing


def test_batches_take_turns_by_their_work() -> None:
    made = schedule(rows(*[("", 4, "big")] * 3, *[("", 2, "small")] * 4))
    assert order(made) == [1, 4, 5, 2, 6, 7, 3]


def test_a_row_goes_only_where_it_can_run() -> None:
    made = schedule([OpenRow(1, "", 1, frozenset({"fal"}))])
    assert made.next_for("w1", 0) is None
    assert made.is_hopeless
    made.add_worker("fal", "fal", 10)
    assert not made.is_hopeless
    assert take(made, "fal") == 1


def test_a_lease_runs_out_unless_the_worker_beats() -> None:
    made = schedule(rows(("", 1, "")), workers=2)
    take(made, "w1", now=0)
    assert made.beat("w1", 1, 1, now=9)
    assert made.late(now=18) == []
    assert [worker for worker, _ in made.late(now=20)] == ["w1"]
    assert made.silence("w1", 1, 1, now=20)
    assert take(made, "w2", now=20) == 1
    assert not made.beat("w1", 1, 1, now=21)
    made.drop("w1", 1, 1)
    assert not made.is_over, "the late worker took the lease of the other one"


def test_an_older_attempt_of_the_same_worker_has_no_lease() -> None:
    made = schedule(rows(("", 1, "")))
    take(made)
    made.silence("w1", 1, 1, now=11)
    row = made.next_for("w1", now=99)
    assert row is not None
    made.lease("w1", row, 2, now=99)
    assert not made.beat("w1", 1, 1, now=99)
    assert made.beat("w1", 1, 2, now=99)


def test_a_process_that_slept_itself_blames_no_worker() -> None:
    made = schedule(rows(("", 1, "")))
    take(made)
    made.extend_all(now=100)
    assert made.late(now=109) == []


def test_a_lost_row_goes_to_another_worker_if_there_is_one() -> None:
    made = schedule(rows(("", 1, "")), workers=2)
    take(made, "w1")
    assert made.retry("w1", 1, 1, "lost", now=0)
    assert made.next_for("w1", 50) is None
    assert take(made, "w2", 50) == 1


def test_a_row_at_which_a_worker_was_lost_comes_after_the_others() -> None:
    made = schedule(rows(("", 9, ""), ("", 1, "")))
    take(made)
    made.retry("w1", 1, 1, "lost", now=0)
    assert [take(made, now=9)] == [2]


def test_a_lost_row_comes_back_to_the_only_worker_after_a_rest() -> None:
    made = schedule(rows(("", 1, "")))
    take(made)
    assert made.retry("w1", 1, 1, "lost", now=0)
    assert made.next_for("w1", 0.5) is None
    assert take(made, now=1) == 1


def test_out_of_memory_tries_less_of_the_model_there_and_then_elsewhere() -> None:
    (row,) = rows(("", 1, ""))
    made = schedule([row], workers=2)
    take(made, "w1")
    assert made.retry("w1", 1, 1, "out of memory", 0)
    assert (row.smaller, take(made, "w1")) == (1, 1)
    assert made.retry("w1", 1, 1, "out of memory", 0)
    assert made.next_for("w1", 0) is None
    assert (row.smaller, take(made, "w2")) == (2, 1)
    assert not made.retry("w2", 1, 1, "out of memory", 0)


def two_gpus(*open_rows: OpenRow) -> RowSchedule:
    made = RowSchedule(open_rows)
    made.add_worker("small", "local", 10.0, 12 << 30)
    made.add_worker("large", "local", 10.0, 80 << 30)
    return made


def test_a_row_waits_for_a_gpu_with_the_memory_that_it_needs() -> None:
    large, small = (OpenRow(number, "", 3 - number, LOCAL, "", 20 << 30) for number in (1, 2))
    small.least_bytes = 5 << 30
    made = two_gpus(large, small)
    assert take(made, "small") == 2
    assert made.next_for("small", 0.0) is None
    assert take(made, "large") == 1


def test_an_estimate_above_every_gpu_refuses_no_row() -> None:
    assert take(two_gpus(OpenRow(1, "", 1, LOCAL, "", 200 << 30)), "small") == 1


def test_a_row_that_did_not_fit_goes_to_a_larger_gpu_alone() -> None:
    made = two_gpus(OpenRow(1, "", 1, LOCAL))
    made.add_worker("as small", "local", 10.0, 12 << 30)
    for _ in range(REMEDIES["out of memory"].elsewhere):
        take(made, "small")
        made.retry("small", 1, 1, "out of memory", 0.0)
    assert made.next_for("as small", 0.0) is None
    assert take(made, "large") == 1


def test_what_a_place_refuses_runs_at_another_one_or_fails() -> None:
    made = RowSchedule([OpenRow(1, "", 1, frozenset({"fal", "local"}))])
    made.add_worker("fal", "fal", None)
    made.add_worker("local", "local", None)
    take(made, "fal")
    assert made.retry("fal", 1, 1, "refused", 0)
    assert made.next_for("fal", 9) is None
    assert take(made, "local") == 1
    assert not made.retry("local", 1, 1, "refused", 0)


def test_a_row_that_was_not_begun_does_not_fail() -> None:
    made = schedule(rows(("", 1, "")), workers=2)
    for worker in ("w1", "w2") * 6:
        take(made, worker, now=1000)
        assert made.retry(worker, 1, 1, "absent", -1000)


def test_a_wrong_request_is_not_tried_again() -> None:
    made = schedule(rows(("", 1, "")), workers=2)
    take(made)
    assert not made.retry("w1", 1, 1, "failed", 0)
    assert made.is_over


def test_a_worker_that_is_always_lost_gets_no_more_rows() -> None:
    made = schedule(rows(*[("", 1, "")] * 9))
    for _ in range(8):
        number = take(made, now=1000)
        made.retry("w1", number, 1, "lost", -1000)
    assert made.is_given_up("w1")
    assert made.is_hopeless


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (RequestError.of("seed", "wrong", "right"), "failed"),
        (MediaError("a disk"), "failed"),
        (OSError(28, "No space left on device"), "failed"),
        (WorkerLostError("it ended"), "lost"),
        (WorkerAbsentError("no answer"), "absent"),
        (NotAcceptedError("busy", provider="fal"), "absent"),
        (SpendingError("the limit", provider="fal"), "refused"),
        (RefusedError("no", provider="fal"), "refused"),
        (AmbiguousError("nobody knows", provider="fal"), "failed"),
        (FailedAttemptError("out of memory", "there"), "out of memory"),
        (MemoryError(), "out of memory"),
        (NoRoomError("the high-noise expert needs 40 GiB"), "out of memory"),
        (RuntimeError("CUDA error: out of memory"), "out of memory"),
        (JournalError("full"), None),
        (KeyboardInterrupt(), None),
        (ZeroDivisionError(), None),
    ],
)
def test_each_error_has_its_cause(error: BaseException, cause: str | None) -> None:
    assert cause_of(error) == cause


class Workers(RuleBasedStateMachine):
    """Three workers do, fail, lose and come back too late, in any order; a row is never that of two."""

    def __init__(self) -> None:
        super().__init__()
        self.made = schedule(
            rows(*[(key, work, key) for key, work in zip("aabbcc", range(6), strict=True)]), 3
        )
        self.now = 0.0
        self.held: dict[str, tuple[int, int]] = {}
        self.late: set[tuple[str, int, int]] = set()
        self.attempts: Counter[int] = Counter()
        self.ended: list[int] = []

    @rule(worker=st.sampled_from(["w1", "w2", "w3"]))
    def takes(self, worker: str) -> None:
        row = self.made.next_for(worker, self.now)
        if row is not None and worker not in self.held:
            self.attempts[row.number] += 1
            self.made.lease(worker, row, self.attempts[row.number], self.now)
            self.held[worker] = (row.number, self.attempts[row.number])

    @rule(worker=st.sampled_from(["w1", "w2", "w3"]))
    def makes(self, worker: str) -> None:
        if worker in self.held and self.made.drop(worker, *self.held.pop(worker)):
            self.ended.append(1)

    @rule(worker=st.sampled_from(["w1", "w2", "w3"]), cause=st.sampled_from(sorted(REMEDIES)))
    def fails(self, worker: str, cause: Cause) -> None:
        if worker in self.held and not self.made.retry(worker, *self.held.pop(worker), cause, self.now):
            self.ended.append(1)

    @rule(seconds=st.sampled_from([1.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        for worker, lease in self.made.late(self.now):
            number, attempt = lease.row.number, lease.attempt
            del self.held[worker]
            self.late.add((worker, number, attempt))
            if not self.made.silence(worker, number, attempt, self.now):
                self.ended.append(1)

    @rule()
    def a_late_worker_comes_back(self) -> None:
        for worker, number, attempt in self.late:
            assert not self.made.beat(worker, number, attempt, self.now)
            assert self.made.drop(worker, number, attempt) is None
        self.late.clear()

    @invariant()
    def every_row_waits_or_is_one_workers_or_has_ended(self) -> None:
        leased = [number for number, _ in self.held.values()]
        assert len(set(leased)) == len(leased)
        assert not self.made.waiting & set(leased)
        assert len(self.made.waiting) + len(leased) + len(self.ended) == 6


Workers.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
test_any_order_of_losses = Workers.TestCase
