"""Every cell of the table that says what becomes of a job without a result."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import get_args

import pytest

from wan_duet.pipelines.errors import JobFailedError, JobLostError, RemoteError, UnreachableError
from wan_duet.pipelines.remote.job_context import JobContext
from wan_duet.pipelines.remote.job_record import FOLLOWS
from wan_duet.pipelines.remote.verdict import VERDICTS, Absence, Heard, Phase, heard_in, left_open

ERRORS = {
    "failed": JobFailedError,
    "not there": JobLostError,
    "refused": RemoteError,
    "no answer": UnreachableError,
}


def error_of(heard: str) -> RemoteError:
    return ERRORS[heard]("why", provider="fal", money="spent")


def test_the_table_has_a_cell_for_everything() -> None:
    assert set(VERDICTS) == set(product(get_args(Heard), (False, True)))
    assert {heard_in(error_of(heard)) for heard in ERRORS} == set(get_args(Heard))


@pytest.mark.parametrize(("heard", "stopping"), VERDICTS)
def test_only_the_provider_ends_a_job_that_it_still_has_to_keep(heard: Heard, stopping: bool) -> None:
    patient, kept, expired = VERDICTS[heard, stopping]
    if heard == "failed":
        assert patient == kept == expired == ("cancelled" if stopping else "failed")
        return
    assert patient == "look again"
    assert kept == "leave open" or stopping
    assert expired == kept or (heard, expired) == ("not there", "lost")


@pytest.mark.parametrize("heard", get_args(Heard))
@pytest.mark.parametrize("stopping", [False, True])
@pytest.mark.parametrize("phase", get_args(Phase))
def test_the_phase_is_read_off_the_clocks(
    context: JobContext, order, begin, heard: Heard, stopping: bool, phase: Phase
) -> None:
    times = context.poll_times
    job = replace(begin(order()), state="running", sent_at=context.clock.now(), stop_asked=stopping)
    absence = Absence(context, seen=context.clock.elapsed())
    if phase == "expired":
        context.clock.slept += times.kept
    first = absence.verdict(job, error_of(heard))
    assert first == VERDICTS[heard, stopping][0]
    if phase != "patient":
        long = {"no answer": times.silent}.get(heard, times.missing)
        context.clock.slept += (times.grace if stopping else long if phase == "kept" else times.silent) + 1
    if heard == "no answer" and phase == "kept" and not stopping:
        absence.see()  # or an hour of silence is an hour in which the result may have gone
    expected = VERDICTS[heard, stopping][get_args(Phase).index(phase)]
    assert absence.verdict(job, error_of(heard)) == expected
    assert expected in (*FOLLOWS["running"], "look again", "leave open")


def test_a_look_that_brought_something_begins_the_patience_anew(context: JobContext, order, begin) -> None:
    job, absence = begin(order()), Absence(context)
    absence.verdict(job, error_of("refused"))
    context.clock.slept += context.poll_times.missing + 1
    absence.end()
    assert absence.verdict(job, error_of("refused")) == "look again"


@pytest.mark.parametrize("heard", ["not there", "refused", "no answer"])
def test_an_open_job_is_never_called_lost(order, begin, heard: str) -> None:
    told = left_open(begin(order()), error_of(heard))
    assert not isinstance(told, (JobFailedError, JobLostError))
    assert "jobs attach" in told.message
