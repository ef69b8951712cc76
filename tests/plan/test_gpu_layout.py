"""How many devices share a forward, and what they exchange."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.plan.gpu_layout import GpuLayout, choose_layout, exchanged_items, is_guided, shares_of


@pytest.mark.parametrize(
    ("ranks", "guided", "layout"),
    [
        (1, True, GpuLayout(False, 1)),
        (2, True, GpuLayout(True, 1)),
        (2, False, GpuLayout(False, 2)),
        (3, True, GpuLayout(False, 3)),
        (4, True, GpuLayout(True, 2)),
        (8, True, GpuLayout(True, 4)),
    ],
)
def test_an_even_number_of_guided_devices_makes_a_pair(ranks: int, guided: bool, layout: GpuLayout) -> None:
    assert choose_layout(ranks, 40, guided=guided) == layout


def test_more_devices_than_heads_are_refused_with_the_counts_that_work() -> None:
    with pytest.raises(RequestError) as refused:
        choose_layout(4, 2, guided=False)
    assert str(refused.value) == (
        "gpus: 4 devices would split 2 attention heads in 4; give as many devices as one of 1, 2"
    )
    with pytest.raises(RequestError, match=r"one of 1, 2, 4$"):
        choose_layout(3, 2, guided=True)


def test_a_run_is_guided_only_if_each_of_its_steps_is() -> None:
    assert is_guided({"high": 3.5, "low": 3.5}, ["high", "low"])
    assert not is_guided({"high": 3.5, "low": 1}, ["high", "low"])
    assert is_guided({"high": 3.5, "low": 1}, ["high"])
    assert not is_guided({"high": 3.5}, [])


@given(st.integers(1, 80), st.integers(1, 9), st.lists(st.integers(1, 30), min_size=1, max_size=5))
def test_every_head_goes_to_one_rank_and_nothing_is_sent_to_itself(
    heads: int, ranks: int, segments: list[int]
) -> None:
    shares = shares_of(heads, ranks)
    assert sum(shares) == heads
    assert max(shares) - min(shares) <= 1
    own = [sum(shares_of(segment, ranks)[rank] for segment in segments) for rank in range(ranks)]
    sent = sum(
        4 * own[sender] * shares[taker]
        for sender in range(ranks)
        for taker in range(ranks)
        if sender != taker
    )
    assert exchanged_items(segments, heads, 1, ranks) == sent
