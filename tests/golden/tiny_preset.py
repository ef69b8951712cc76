"""The tiny two-expert model of the golden run of the preset, as single files that users have."""

from __future__ import annotations

from pathlib import Path

import tiny
import tiny_files
from torch import Tensor

PROMPT, SEED = "red ball moves slowly over the sea", 303
WIDTH, HEIGHT, FRAMES = 80, 64, 9  # latents of tiny.LATENT_SHAPE


def save_files(folder: Path, pieces: Tensor) -> dict[str, Path]:
    """Write the files of the model and return them by their flags of the command line.

    pieces: the bytes of a SentencePiece model.
    """
    experts = {name: tiny.expert_weights(tiny.SEEDS[name]) for name in ("high", "low")}
    text = tiny_files.text_encoder(width=tiny.TEXT_DIM)
    return {
        "--model": tiny_files.save(folder / "high.safetensors", experts["high"]),
        "--low-model": tiny_files.save(folder / "low.safetensors", experts["low"]),
        "--vae": tiny_files.save(folder / "vae.safetensors", tiny_files.wan_vae_names(tiny_files.vae("2.1"))),
        "--text-encoder": tiny_files.save(folder / "text.safetensors", {**text, "spiece_model": pieces}),
    }
