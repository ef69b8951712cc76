"""What the pack does to the process it is loaded into: nothing, before the first run."""

from __future__ import annotations

from typing import Any


def test_no_network_library_is_loaded_before_a_run_needs_it(first_look: dict[str, Any]) -> None:
    assert "diffusers" not in first_look["modules"]
    assert first_look["networks"] == []
