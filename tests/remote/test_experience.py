from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.errors import JournalError
from wan_duet.pipelines.remote.experience import known_spending, with_experience
from wan_duet.pipelines.remote.job_record import Job, Order
from wan_duet.pipelines.remote.journal import Journal
from wan_duet.pipelines.request import check, check_all, parse, side_by_side
from wan_duet.pipelines.request.prices import PRICES

ENDPOINT = "fal-ai/wan/v2.2-a14b/text-to-video"
REQUEST = parse("text-to-video", {"prompt": "a dog", "num_interpolated_frames": 0})


@pytest.fixture
def done(begin: Callable[..., Job], order: Callable[..., Order]) -> Callable[..., Job]:
    """A job that was estimated at $0.05 and is done."""

    def make(number: int, charged: float | None, seconds: float | None = None, **more: Any) -> Job:
        job = begin(order(f"dog {number}"))
        completed = None if seconds is None else 1000.0 + seconds
        return replace(
            job, **{"state": "done", "charged": charged, "sent_at": 1000.0, "completed_at": completed, **more}
        )

    return make


def test_the_median_charge_and_time_of_an_endpoint_are_learned(done: Callable[..., Job]) -> None:
    jobs = [done(1, 0.05, 10), done(2, 0.06, 30), done(3, 0.075, 90), done(4, None)]
    learned = with_experience(PRICES, jobs)
    assert learned[ENDPOINT]["charged"] == {"jobs": 3, "ratio": pytest.approx(1.2)}
    assert learned[ENDPOINT]["seconds"] == 30
    assert {name: entry for name, entry in learned.items() if name != ENDPOINT} == {
        name: entry for name, entry in PRICES.items() if name != ENDPOINT
    }


def test_only_the_latest_jobs_count(done: Callable[..., Job]) -> None:
    jobs = [done(number, 0.05 if number < 15 else 0.1) for number in range(35)]
    assert with_experience(PRICES, jobs)[ENDPOINT]["charged"] == {"jobs": 20, "ratio": pytest.approx(2.0)}


@pytest.mark.parametrize(
    ("charged", "more"), [(0.05, {"state": "failed"}), (0.05, {"price_usd": None}), (None, {})]
)
def test_a_job_without_charge_or_estimate_teaches_no_price(
    done: Callable[..., Job], charged: float | None, more: dict[str, Any]
) -> None:
    assert "charged" not in with_experience(PRICES, [done(1, charged, **more)]).get(ENDPOINT, {})


def test_a_clock_that_was_set_back_teaches_no_time(done: Callable[..., Job]) -> None:
    assert "seconds" not in with_experience(PRICES, [done(1, 0.05, -3600)])[ENDPOINT]


@pytest.mark.parametrize(("ratio", "warned"), [(1.0, False), (1.04, False), (0.94, True), (1.06, True)])
def test_a_charge_that_parts_from_the_estimate_by_more_than_a_twentieth_is_warned_of(
    ratio: float, warned: bool
) -> None:
    prices = {**PRICES, ENDPOINT: {**PRICES[ENDPOINT], "charged": {"jobs": 3, "ratio": ratio}}}
    text = check(REQUEST, "fal", prices=prices).text()
    assert (f"your last 3 jobs there cost {ratio:.2f} times the estimate" in text) is warned
    assert ("WARNING" in text) is warned


def test_an_endpoint_without_a_price_can_have_a_known_time(done: Callable[..., Job]) -> None:
    endpoint = "fal-ai/wan/v2.2-a14b/image-to-video/lora"
    prices = with_experience(PRICES, [done(1, 0.05, 42, endpoint=endpoint)])
    request = parse("image-to-video-lora", {"prompt": "a dog", "image_url": "https://a.test/dog.png"})
    report = check(request, "fal", prices=prices)
    assert (report.price.usd, report.expected_s) == (None, 42)


def test_price_and_time_of_the_runners_stand_side_by_side() -> None:
    prices = {**PRICES, ENDPOINT: {**PRICES[ENDPOINT], "seconds": 61.4}}
    lines = side_by_side(check_all(REQUEST, prices=prices)).splitlines()
    assert [line.split() for line in lines[2:4]] == [
        ["price", "$0.00", "$0.41", "unknown"],
        ["seconds", "unknown", "about", "61", "unknown"],
    ]


def test_the_journal_of_a_folder_is_read(
    tmp_path: Path, journal: Journal, begin: Callable[..., Job], order: Callable[..., Order], owner: Any
) -> None:
    job = begin(order())
    for state in ("submitting", "submitted", "completed"):
        journal.move(job.job_id, owner, state, sent_at=1.0, completed_at=9.0, charged=0.1)
    journal.move(job.job_id, owner, "done", file_path=str(tmp_path / "film.mp4"), size_bytes=1)
    entry = known_spending(tmp_path).prices[ENDPOINT]
    assert (entry["charged"], entry["seconds"]) == ({"jobs": 1, "ratio": pytest.approx(2.0)}, 8.0)


def test_a_folder_without_a_journal_gets_none(tmp_path: Path) -> None:
    assert known_spending(tmp_path).prices == PRICES
    assert list(tmp_path.iterdir()) == []


def test_a_journal_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "jobs.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(JournalError, match=r"jobs\.sqlite"):
        known_spending(tmp_path)
