"""Every form of a LoRA means to us what it means to ComfyUI."""

from __future__ import annotations

from collections.abc import Callable

import pytest

# ComfyUI divides the rows of a DoRA by their norm before the change; PEFT, LyCORIS and we by that after it.
OTHERWISE_IN_COMFYUI = {"DoRA", "LoKr with a magnitude"}


@pytest.mark.host
def test_every_form_equals_comfyui(told_by: Callable[[str], dict[str, float]]) -> None:
    found = told_by("lora_forms.py")
    assert len(found) == 25
    assert {form for form, error in found.items() if error > 1e-6} == OTHERWISE_IN_COMFYUI
