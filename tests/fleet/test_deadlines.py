"""The deadlines of the fleet fit each other: nobody is lost for a pause, and nothing waits for an hour."""

from __future__ import annotations

import inspect

import pytest

from wan_duet.pipelines.fleet import (
    comfy_place,
    crew,
    fal_place,
    process_worker,
    ray_cluster,
    ray_node,
    ray_slot,
    ray_worker,
    row_schedule,
    worker_process,
)
from wan_duet.pipelines.fleet.retries import REMEDIES


def default_lease(worker: type) -> float:
    return float(inspect.signature(worker).parameters["lease_s"].default)


LEASES = {
    "process": default_lease(process_worker.ProcessWorker),
    "comfy": default_lease(comfy_place.ComfyPlace),
    "ray": ray_worker.RayWorker.lease_s,
}


@pytest.mark.parametrize("place", LEASES)
def test_a_lease_outlives_some_missed_beats_and_ends_within_a_minute(place: str) -> None:
    assert 8 * worker_process.BEAT_S <= LEASES[place] <= 60


def test_a_slot_ends_the_row_of_a_driver_that_is_gone_before_another_one_may_have_it() -> None:
    assert 5 * ray_worker._LOOK_S <= ray_slot.DRIVER_SILENT_S < LEASES["ray"]
    assert ray_slot.DRIVER_SILENT_S < ray_worker._SILENT_S <= 60


def test_a_slot_that_lives_answers_long_before_its_cluster_is_given_up() -> None:
    assert 2 <= ray_cluster._ALIVE_S < ray_cluster._ANSWER_S < ray_node._START_S <= 120
    assert ray_worker._CALL_S <= 120 < ray_cluster._LOAD_S <= 3600  # a piece of a file, and a whole model
    assert ray_worker._CALL_S >= ray_cluster._ANSWER_S


def test_what_is_stopped_may_end_its_step_and_is_not_waited_for_long() -> None:
    ends = [crew._END_S, process_worker._END_S, worker_process._END_S, ray_node._END_S]
    assert all(2 <= seconds <= 30 for seconds in ends)


def test_what_was_lost_is_tried_again_soon_and_not_for_ever() -> None:
    assert 5 <= row_schedule._LONGEST_REST_S <= 60
    assert 0.1 <= fal_place._POLL_S <= 2
    assert all(remedy.attempts is None or 1 <= remedy.attempts <= 10 for remedy in REMEDIES.values())
