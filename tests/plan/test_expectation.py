"""What a run is expected to take, from what a machine was measured to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from plans import plan_of

from wan_duet.pipelines.plan.expectation import Rates, expect, read_rates, write_rates
from wan_duet.pipelines.plan.families import FAMILIES
from wan_duet.pipelines.plan.flops import SIZES
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


def test_rates_are_read_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "rates.json"
    assert read_rates(file) is None
    write_rates(file, H200)
    assert read_rates(file) == H200
    file.write_text(json.dumps({"device": "of another version"}))
    assert read_rates(file) is None
