"""Training that goes on from an export: its VAE and text encoder stay, its experts are where it starts.

What lies in the repository is thus enough to train the experts further, or others beside them.
"""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from safetensors.torch import load_file

from .fold import official_statistics
from .networks import new_vae
from .schedule import Run

__all__ = ["adopt", "adopted_file"]

log = logging.getLogger(__name__)

_EXPERTS = {
    "high": "transformer",
    "low": "transformer_2",
    "high_image": "image/transformer",
    "low_image": "image/transformer_2",
}


def adopted_file(run: Run, stage: str) -> Path:
    """Where the starting weights of an expert's stage lie, if they were adopted."""
    return run.out / "adopted" / f"{stage}.pt"


def adopt(folder: Path, run: Run) -> None:
    """Take over the export in `folder`; what a stage of this run has trained already stays."""
    for stage, key, part in (
        ("vae", "vae", "vae/diffusion_pytorch_model.safetensors"),
        ("text", "encoder", "text_encoder/model.safetensors"),
    ):
        path = run.checkpoint(stage)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            weights = {name: value.float() for name, value in load_file(folder / part).items()}
            if "shared.weight" in weights:
                weights["encoder.embed_tokens.weight"] = weights["shared.weight"]  # tied, so exported once
            torch.save({"step": 0, "averages": {key: weights}}, path)
    # An exported VAE is folded already: with the official statistics, folding it again changes nothing.
    mean, std = (value.flatten() for value in official_statistics(new_vae()))
    statistics = run.out / "latents" / "statistics-vae0.pt"
    statistics.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"mean": mean, "std": std}, statistics)
    for stage, part in _EXPERTS.items():
        file = folder / part / "diffusion_pytorch_model.safetensors"
        if file.exists():
            adopted_file(run, stage).parent.mkdir(parents=True, exist_ok=True)
            weights = {name: value.float() for name, value in load_file(file).items()}
            torch.save(weights, adopted_file(run, stage))
            log.info("%s: starts from %s", stage, file)
