"""Inputs that come with the pack, for the embedded models."""

from __future__ import annotations

from pathlib import Path

__all__ = ["SAMPLE_FOLDER", "sample_input"]

SAMPLE_FOLDER = Path(__file__).parents[1] / "embedded" / "weights" / "speech"
_SAMPLES = {f"toy/{name}": SAMPLE_FOLDER / name for name in ("face.png", "speech.wav")}


def sample_input(name: str) -> Path | None:
    """Return the file that a field of a request names as toy/NAME; None if it names none of the pack."""
    return _SAMPLES.get(name.strip())
