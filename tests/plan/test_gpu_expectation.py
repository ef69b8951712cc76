"""What several devices are worth: from the rates of one, and from the link between them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from plans import plan_of

from wan_duet.pipelines.plan.expectation import Rates, expect, forward_seconds
from wan_duet.pipelines.plan.families import FAMILIES
from wan_duet.pipelines.plan.flops import SIZES
from wan_duet.pipelines.plan.gpu_expectation import expect_on_gpus, sent_in_forward, shared_forward_seconds
from wan_duet.pipelines.plan.gpu_layout import GpuLayout, exchanged_items
from wan_duet.pipelines.plan.plan import Plan
from wan_duet.pipelines.request import t2v_request

A14B = SIZES["wan2.2-t2v-a14b"]
RATES = Rates("GPU", "bfloat16", 2, 6e14, 6e14, 3e12, "triton", "2026-11-30", link=3e11)


def planned(**values: float) -> Plan:
    return plan_of(t2v_request(prompt="a ball", **values), FAMILIES["wan2.2-t2v-a14b"])


def test_with_no_link_to_wait_for_each_of_two_takes_half_but_for_the_text() -> None:
    rates = replace(RATES, link=float("inf"))
    alone, shared = forward_seconds(A14B, 32760, rates), shared_forward_seconds(A14B, 40, 32760, rates, 2)
    assert shared / alone == pytest.approx(0.5, abs=0.01)
    assert shared > alone / 2


def test_uneven_heads_cost_the_time_of_the_rank_that_has_more() -> None:
    rates = replace(RATES, products=float("inf"), copies=float("inf"), link=float("inf"))
    shared = shared_forward_seconds(A14B, 40, 300, rates, 3)
    cross = 40 * 4 * 5120 * 100 * 512
    assert shared == pytest.approx((40 * 4 * 5120 * 300 * 300 * 14 / 40 + cross) / 6e14)


def test_equal_ranks_send_equal_parts_of_what_is_counted() -> None:
    """All 40 blocks of an A14B, and 64 numbers of each token of the result."""
    blocks = 40 * exchanged_items([32760], 40, 128, 4)
    assert sent_in_forward(A14B, 40, 32760, 2, 4) == 2 * (blocks + 32760 * 64 * 3) // 4
    assert sent_in_forward(A14B, 40, 32760, 2, 1) == 0


def test_a_pair_makes_half_of_the_forwards() -> None:
    plan = planned(guidance_scale=3.5, guidance_scale_2=3.5)
    found = expect_on_gpus(plan, A14B, 40, RATES, GpuLayout(True, 1))
    alone = expect(plan, A14B, RATES)
    assert found.total_s == pytest.approx(alone.forwards / 2 * alone.forward_s + alone.decode_s)
    assert found.factor == pytest.approx(alone.total_s / found.total_s)
    assert "about " in found.text()


@pytest.mark.parametrize("rates", [None, replace(RATES, link=None)])
def test_what_was_not_measured_is_unknown(rates: Rates | None) -> None:
    found = expect_on_gpus(planned(), A14B, 40, rates, GpuLayout(False, 4))
    assert found.factor is None
    assert found.as_dict()["exactness"] == "float"
    assert found.text() == (
        "on 4 devices (tokens split in 4), float (differs by rounding only): how fast is unknown; "
        "measure it with `wan-duet bench --gpus`"
    )
