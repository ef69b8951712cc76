"""Fits is said of memory that is known, and times only where this machine was measured."""

from __future__ import annotations

import pytest

from wan_duet.pipelines.model_files.catalogue import read_catalogue
from wan_duet.pipelines.model_files.machine_fit import Machine, expected, fit, weight_count
from wan_duet.pipelines.plan.expectation import Rates
from wan_duet.pipelines.plan.flops import SIZES
from wan_duet.pipelines.request import LOCAL_KINDS

GB = 10**9
CATALOGUE = read_catalogue()
A14B = CATALOGUE.choose("text-to-video", "fp8")
SMALL = CATALOGUE.choose("small-text-to-video", None)
RATES = Rates("cuda", "bfloat16", 2, 600e12, 500e12, 4e12, "triton", "2026-11-29")


@pytest.mark.parametrize(
    ("device", "ram", "words"),
    [
        (80 * GB, 64 * GB, "fits: 80 GB are free on cuda"),
        (32 * GB, 64 * GB, "fits one expert at a time"),
        (24 * GB, 64 * GB, "does not fit whole, so blocks are streamed from main memory"),
        (24 * GB, 16 * GB, "does not fit whole, so blocks are streamed from the disk"),
        (None, 64 * GB, "free memory of cuda is unknown"),
    ],
)
def test_an_a14b_is_compared_with_device_and_main_memory(device: int | None, ram: int, words: str) -> None:
    assert words in fit(A14B, Machine("cuda", device, ram))


def test_a_small_model_fits_where_a_large_one_does_not() -> None:
    machine = Machine("cuda", 16 * GB, 64 * GB)
    assert fit(SMALL, machine).startswith("fits: ")
    assert "does not fit" in fit(A14B, machine)
    assert "runs on the CPU from main memory" in fit(SMALL, Machine("cpu", 64 * GB, 64 * GB))


@pytest.mark.parametrize(("file", "family"), [("wan2.2_ti2v_5B_fp16", "wan2.2-ti2v-5b")])
def test_the_count_of_weights_is_that_of_the_published_file(file: str, family: str) -> None:
    size_bytes = CATALOGUE.files[f"{file}.safetensors"].size_bytes
    assert 0.97 < 2 * weight_count(SIZES[family]) / size_bytes < 1


@pytest.mark.parametrize("kind", LOCAL_KINDS)
def test_the_time_of_the_usual_request_is_told_where_the_machine_was_measured(kind: str) -> None:
    for files in CATALOGUE.sets(kind).values():
        assert expected(kind, files.family, None) is None
        known = expected(kind, files.family, RATES)
        if files.family == "wan2.1-flf2v-14b":  # which must have a picture to end with
            assert known is None
        else:
            assert known is not None
            assert known.total_s > 1
