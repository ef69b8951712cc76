"""What loading and running experts take, on files of a quarter of a GB; bench/memory_use.py has larger ones.

Anonymous memory is what counts: pages of mapped files go when the system needs the room.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench" / "memory_use.py"
ARENA = 64 * 2**20  # what the C library may keep at the end of a thread's own heap, whatever was freed there
SMALL = 16 * 2**20  # what a forward and the library take, whatever the size of the model

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells anonymous memory")


@pytest.fixture(scope="module")
def used() -> dict[str, dict[str, int]]:
    command = [sys.executable, str(BENCH), "--layers", "1"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    found: dict[str, dict[str, int]] = json.loads(answer.stdout)["cases"]
    return found


def test_weights_of_the_right_dtype_stay_their_file(used: dict[str, dict[str, int]]) -> None:
    case = used["same dtype"]
    assert case["mapped_bytes"] > 0.9 * case["kept_bytes"]
    assert case["peak_bytes"] <= 1.05 * (case["kept_bytes"] - case["mapped_bytes"]) + SMALL


def test_converting_takes_the_weights_that_are_kept_and_no_copy(used: dict[str, dict[str, int]]) -> None:
    case = used["converted"]
    assert case["mapped_bytes"] == 0
    assert 0.95 * case["kept_bytes"] <= case["peak_bytes"] <= 1.05 * case["kept_bytes"] + SMALL


def test_a_lora_takes_no_more_than_is_foretold(used: dict[str, dict[str, int]]) -> None:
    case = used["converted, with a LoRA"]
    assert case["peak_bytes"] <= 1.05 * case["kept_bytes"] + case["making_bytes"] + SMALL


def test_two_experts_take_hardly_more_than_one(used: dict[str, dict[str, int]]) -> None:
    assert used["two experts"]["peak_bytes"] <= 1.15 * used["converted"]["peak_bytes"]


def test_a_run_leaves_nothing(used: dict[str, dict[str, int]]) -> None:
    assert all(case["left_bytes"] <= ARENA + SMALL for case in used.values())


def test_three_runs_leave_no_more_than_one(used: dict[str, dict[str, int]]) -> None:
    three, one = used["two experts, three times"], used["two experts"]
    assert three["left_bytes"] <= one["left_bytes"] + ARENA + SMALL / 4
    assert three["peak_bytes"] <= 1.05 * one["peak_bytes"] + ARENA  # each run has a thread of its own
