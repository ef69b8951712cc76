"""The model that comes with the pack: small enough to ship, so that everything runs on an empty machine."""

from __future__ import annotations

from pathlib import Path

from ..errors import ModelError

__all__ = ["EMBEDDED", "TOY", "TOY_IMAGE", "embedded_loras", "toy_folder"]

TOY, TOY_IMAGE = "toy", "toy-image"
_WEIGHTS = Path(__file__).with_name("weights")
EMBEDDED = {TOY: _WEIGHTS, TOY_IMAGE: _WEIGHTS / "image"}
"""By name: the one that draws from text, and the one that begins with a picture; their experts differ."""


def toy_folder(name: str = TOY) -> Path:
    """An embedded model, a folder in diffusers layout. MODEL_CARD.md in it says what both can draw.

    Raises ModelError when this copy of the pack came without it.
    """
    folder = EMBEDDED[name]
    if not (folder / "model_index.json").is_file():
        raise ModelError(
            f"{folder}: the embedded model {name} is missing from this copy of the pack; install it again"
        )
    return folder


def embedded_loras() -> dict[str, Path]:
    """The LoRAs that come with the embedded model, {"toy/NAME": file}; none in a copy without them."""
    return {f"{TOY}/{file.stem}": file for file in sorted((_WEIGHTS / "loras").glob("*.safetensors"))}
