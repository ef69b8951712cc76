"""One request for several seeds is as many requests, each as if it had been asked for alone."""

from __future__ import annotations

import pytest

from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.request import check, parse
from wan_duet.pipelines.request.seeds import SEED_MAX
from wan_duet.pipelines.request.seeds_of_count import one_per_seed


def counted(count: int, **values: object) -> object:
    return parse("text-to-video", {"prompt": "a", "local": {"count": count}, **values})


def test_seeds_above_the_largest_are_refused_by_the_check() -> None:
    request = parse("text-to-video", {"prompt": "a", "seed": 2**64 - 2, "local": {"count": 3}})
    assert [problem.field for problem in check(request).problems] == ["local.count"]
    request = parse("text-to-video", {"prompt": "a", "seed": 2**64 - 2, "local": {"count": 2}})
    assert check(request).ok


def test_the_seeds_follow_each_other() -> None:
    alone = [parse("text-to-video", {"prompt": "a", "seed": seed}) for seed in (7, 8, 9)]
    assert one_per_seed(counted(3, seed=7)) == alone


def test_without_a_seed_each_draws_its_own() -> None:
    assert one_per_seed(counted(2)) == [parse("text-to-video", {"prompt": "a"})] * 2


def test_other_settings_of_local_stay() -> None:
    requests = one_per_seed(counted(2, seed=1, local={"count": 2, "nag_scale": 5}))
    assert [request.document()["local"] for request in requests] == [{"nag_scale": 5.0}] * 2


def test_one_is_the_request_itself() -> None:
    request = counted(1)
    assert one_per_seed(request) == [request]
    assert "local" not in request.document()


def test_a_seed_beyond_the_largest_is_refused() -> None:
    assert len(one_per_seed(counted(2, seed=SEED_MAX - 1))) == 2
    with pytest.raises(RequestError, match="seed: got 18446744073709551616"):
        one_per_seed(counted(3, seed=SEED_MAX - 1))


@pytest.mark.parametrize("runner", ["fal", "novita"])
def test_a_provider_refuses_a_count_by_name(runner: str) -> None:
    (refused,) = [item for item in check(counted(2), runner).findings if item.field == "local.count"]
    assert (refused.status, refused.asked) == ("impossible", 2)


@pytest.mark.parametrize("count", [0, -1, 1001, 1.5, "3", True])
def test_a_count_is_a_whole_number_from_one(count: object) -> None:
    with pytest.raises(RequestError, match=r"local\.count"):
        counted(count)
