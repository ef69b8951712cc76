"""Products on stored numbers by comfy-kitchen's eager backend are those of our reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

WAYS = {"comfy-kitchen of int8", "comfy-kitchen of mxfp8", "comfy-kitchen of nvfp4"}
# What tokens in the format cost, as in tests/networks/test_stored_linear.py.
LAYERS = {"int8": 0.012, "asym": 0.012, "mxfp8": 0.03, "nvfp4": 0.1}


@pytest.fixture(scope="module")
def answers(told_by: Callable[[str], Any]) -> Any:
    return told_by("kitchen_products.py")


@pytest.mark.host
def test_a_machine_without_its_kernels_does_not_use_it(answers: Any) -> None:
    if answers["has a GPU"]:
        pytest.skip("this machine has a GPU, so comfy-kitchen may have kernels")
    assert answers["refused"] == {
        "comfy-kitchen of int8": "comfy-kitchen has no kernel for int8_linear here",
        "comfy-kitchen of mxfp8": "comfy-kitchen has no kernel for quantize_mxfp8 here",
        "comfy-kitchen of nvfp4": "comfy-kitchen has no kernel for quantize_nvfp4, scaled_mm_nvfp4 here",
    }


@pytest.mark.host
def test_its_products_are_those_of_the_reference(answers: Any) -> None:
    """int8 came after comfy-kitchen 0.2.10."""
    found = answers["products"]
    assert found.keys() in (WAYS, WAYS - {"comfy-kitchen of int8"})
    assert {name: errors for name, errors in found.items() if max(errors) > 1e-6} == {}


@pytest.mark.host
def test_layers_with_loras_differ_from_exact_ones_by_the_tokens_alone(answers: Any) -> None:
    found = {kind: error for kinds in answers["layers"].values() for kind, error in kinds.items()}
    bounds = {kind: next(LAYERS[start] for start in LAYERS if kind.startswith(start)) for kind in found}
    assert {kind: error for kind, error in found.items() if not 1e-4 < error < bounds[kind]} == {}
