"""Says how a request differs from what the official code uses for its model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .model_facts import ModelFacts
from .resolved import Resolved

__all__ = ["official_differences"]


def official_differences(resolved: Resolved | None, family: ModelFacts | None) -> str:
    """Return one sentence about the values that differ. Empty if none does, or if nothing is known."""
    if resolved is None or family is None:
        return ""
    values = resolved.values
    official = family.official_values(resolved.request.task, values.get("resolution"))
    differing = ", ".join(_differing(values, official)) if official else ""
    if not differing:
        return ""
    return f"differs from the official settings of {family.name}: {differing}; --preset official uses those"


def _differing(values: Mapping[str, Any], official: Mapping[str, Any]) -> Iterator[str]:
    for name, value in official.items():
        here = values.get(name)
        if name == "negative_prompt":
            if (here or "") != value:
                yield f"negative_prompt {'given' if here else 'empty'} (official: {value[:12]}...)"
        elif here != value:
            yield f"{name} {here:g} (official {value:g})"
    if values.get("solver", "auto") not in ("auto", "unipc"):
        yield f"solver {values['solver']} (official unipc)"
    for name in ("boundary", "high_steps", "sigmas", "phases", "guidance"):
        if values.get(name) not in (None, []):
            yield f"{name} set"
