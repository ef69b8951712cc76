"""The model that comes with the pack: small enough to ship, so that everything runs on an empty machine."""

from __future__ import annotations

from pathlib import Path

from ..errors import ModelError

__all__ = ["EMBEDDED", "PREVIEW_COLOURS", "TOY", "TOY_IMAGE", "TOY_SPEECH", "embedded_loras", "toy_folder"]

TOY, TOY_IMAGE, TOY_SPEECH = "toy", "toy-image", "toy-speech"
_WEIGHTS = Path(__file__).with_name("weights")
EMBEDDED = {TOY: _WEIGHTS, TOY_IMAGE: _WEIGHTS / "image", TOY_SPEECH: _WEIGHTS / "speech"}
"""By name: the one that draws from text, the one that begins with a picture, the one for speech. They share
all but their transformers.
"""

PREVIEW_COLOURS = _WEIGHTS / "vae" / "preview_colours.json"
"""Latent channels to RGB, in -1..1: {"factors": 16 rows of 3, "bias": 3}, for the VAE beside it. Written by
tools/train_embedded/preview_colours.py.
"""


def toy_folder(name: str = TOY) -> Path:
    """An embedded model, a folder in diffusers layout. MODEL_CARD.md says what each can draw.

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
