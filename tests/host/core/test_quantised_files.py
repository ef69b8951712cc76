"""Quantised files mean to us what they mean to ComfyUI and to comfy-kitchen, which it decodes with."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import quantised_files as files

Answers = dict[str, dict[str, float]]

TOLERANCE = 1e-6  # of the largest number, where a rotation is undone
BFLOAT16 = 0.012  # rounding the numbers, or as nvfp4 in ComfyUI the scales and the numbers


@pytest.fixture(scope="module")
def answers(told_by: Callable[[str], Answers]) -> Answers:
    return told_by("quantised.py")


def bounds(kind: str) -> float:
    return TOLERANCE if kind in files.ROTATED or " by " in kind or "without" in kind else 0.0


@pytest.mark.host
@pytest.mark.parametrize("maker", ["written by us", "written by kitchen"])
def test_every_format_is_read_as_comfyui_reads_it_in_float32(answers: Answers, maker: str) -> None:
    found = answers[maker]
    assert {kind.split(" ")[0] for kind in found} >= {"nvfp4"}
    assert {kind: error for kind, error in found.items() if error > bounds(kind)} == {}


@pytest.mark.host
def test_a_comfyui_of_2026_leaves_no_format_out(answers: Answers) -> None:
    """Older ones lack some, and say which: there the test above compares the others."""
    compared = {
        kind for kind in files.OF_COMFYUI if not kind.startswith(tuple(answers["unknown to this ComfyUI"]))
    }
    assert answers["written by us"].keys() == compared


@pytest.mark.host
def test_what_comfyui_decodes_to_while_it_runs_differs_by_rounding_alone(answers: Answers) -> None:
    assert all(error < BFLOAT16 for error in answers["in bfloat16"].values())
    assert max(answers["in bfloat16"].values()) > 0


# Of the size of a layer's output: ComfyUI quantises the layer's inputs too, to 8 bits or to 4.
PRODUCTS = {"int8": 0.012, "asym": 0.012, "mxfp8": 0.035, "nvfp4": 0.12, "convrot": 0.17}


@pytest.mark.host
def test_products_that_comfyui_computes_in_the_format_are_near_ours(answers: Answers) -> None:
    found = answers["products in the format"]
    bounds_of = {
        kind: next(PRODUCTS[start] for start in PRODUCTS if kind.startswith(start)) for kind in found
    }
    assert {kind: error for kind, error in found.items() if not 0 < error < bounds_of[kind]} == {}
