"""OFT, BOFT and GLoRA mean to us what they mean to ComfyUI."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.mark.host
def test_every_form_that_multiplies_the_weight_equals_comfyui(
    told_by: Callable[[str], dict[str, float]],
) -> None:
    found = told_by("lora_forms.py")
    assert len(found) == 6
    assert {form: error for form, error in found.items() if error > 1e-6} == {}
