"""The model that comes with the pack: small enough to ship, so that everything runs on an empty machine."""

from __future__ import annotations

from pathlib import Path

from ..errors import ModelError

__all__ = ["TOY", "embedded_loras", "toy_folder"]

TOY = "toy"
_WEIGHTS = Path(__file__).with_name("weights")


def toy_folder() -> Path:
    """The embedded model, a folder in diffusers layout. MODEL_CARD.md beside it says what it can draw.

    Raises ModelError when this copy of the pack came without it.
    """
    if not (_WEIGHTS / "model_index.json").is_file():
        raise ModelError(
            f"{_WEIGHTS}: the embedded model is missing from this copy of the pack; install it again"
        )
    return _WEIGHTS


def embedded_loras() -> dict[str, Path]:
    """The LoRAs that come with the embedded model, {"toy/NAME": file}; none in a copy without them."""
    return {f"{TOY}/{file.stem}": file for file in sorted((_WEIGHTS / "loras").glob("*.safetensors"))}
