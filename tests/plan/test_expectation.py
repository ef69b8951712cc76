"""What a run is expected to take, from what a machine was measured to do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from plans import plan_of

from wan_duet.pipelines.plan.expectation import (
    Rates,
    expect,
    forward_seconds,
    rates_of_work,
    read_rates,
    unmeasured,
    write_rates,
)
from wan_duet.pipelines.plan.families import FAMILIES
from wan_duet.pipelines.plan.flops import SIZES, forward_flops
from wan_duet.pipelines.request.parse import parse

T2V = FAMILIES["wan2.2-t2v-a14b"]
# Products and attention in FLOP/s, copies in bytes/s: the ceilings of an H200 that kernels reach.
H200 = Rates("H200", "bfloat16", 2, 790e12, 670e12, 4.3e12, "triton", "2026-11-28")


def test_a_forward_of_a14b_takes_what_its_arithmetic_takes() -> None:
    request = parse("text-to-video", {"prompt": "a fox", "resolution": "480p", "num_frames": 81})
    expected = expect(plan_of(request, T2V), SIZES[T2V.name], H200)
    assert expected.forwards == 54
    assert expected.forward_s == pytest.approx(2.38, abs=0.05)  # 0.785 PF / 790 + 0.893 PF / 670 + copies
    assert expected.decode_s == pytest.approx(275.4 / (0.42 * 790), rel=0.01)
    assert expected.total_s == pytest.approx(54 * expected.forward_s + expected.decode_s)
    assert "54 forwards of 2.4 s" in expected.text()


def test_slower_copies_make_a_slower_forward() -> None:
    plan = plan_of(parse("text-to-video", {"prompt": "a fox"}), T2V)
    plain = Rates(**{**H200.__dict__, "kernels": "plain"})
    assert expect(plan, SIZES[T2V.name], plain).forward_s > expect(plan, SIZES[T2V.name], H200).forward_s


def test_layers_on_stored_numbers_take_the_time_of_their_own_products() -> None:
    """Half of the layers twice as fast, the other half in bf16, and a tenth more for LoRAs beside them."""
    rates = replace(H200, stored={"torch._int_mm": 2 * H200.products})
    found = rates_of_work(rates, {"torch._int_mm": 0.5, None: 0.6})
    size = SIZES[T2V.name]
    products_s = forward_flops(size, 1000).products / H200.products
    saved_s = forward_seconds(size, 1000, rates) - forward_seconds(size, 1000, found)
    assert saved_s == pytest.approx((1 - 0.85) * products_s)
    plan = plan_of(parse("text-to-video", {"prompt": "a fox"}), T2V)
    assert expect(plan, size, found).decode_s == expect(plan, size, H200).decode_s
    assert rates_of_work(rates, {}) == rates


def test_a_way_that_was_not_measured_is_named() -> None:
    rates = replace(H200, stored={"torch._int_mm": 1e15})
    work = {"torch._int_mm": 0.5, "torch._scaled_mm": 0.3, None: 0.2}
    assert unmeasured(rates, work) == ("torch._scaled_mm",)
    assert unmeasured(rates, {}) == ()


def test_rates_are_read_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "rates.json"
    assert read_rates(file) is None
    measured = replace(H200, stored={"torch._int_mm": 1.2e15})
    write_rates(file, measured)
    assert read_rates(file) == measured
    file.write_text(json.dumps({"device": "of another version"}))
    assert read_rates(file) is None
