"""The model that comes with the pack, so that everything runs on an empty machine.

Real Wan classes with small numbers in their configurations, and random weights from a fixed seed, written
once into the user's cache folder in diffusers layout: every later step takes the path that real weights take.
It draws coloured noise, not pictures.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ModelError

__all__ = ["TOY", "cache_folder", "toy_folder"]

log = logging.getLogger(__name__)

TOY = "toy"
_SEED = 22
_FORMAT = 2  # counts changes of the files that the configurations do not show
_INDEX = {
    "_class_name": "WanPipeline",
    "boundary_ratio": 0.875,  # T2V, official wan/configs/wan_t2v_A14B.py
    "wan_duet": {"family": "toy"},
}


def toy_folder() -> Path:
    """The embedded model as a folder in diffusers layout; made on first use (a second, 16 MB).

    Raises ModelError when the cache folder cannot be written.
    """
    from .networks import expert_config, text_encoder_config, vae_config

    configs = {
        "vae": vae_config(),
        "expert": expert_config(),
        "text": text_encoder_config(),
        "seed": _SEED,
        "format": _FORMAT,
    }
    version = hashlib.sha256(json.dumps(configs, sort_keys=True).encode()).hexdigest()[:12]
    folder = cache_folder() / f"toy-{version}"
    if not (folder / "model_index.json").is_file():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            _make(folder)
        except OSError as error:
            raise ModelError(f"{folder}: cannot write the embedded model: {error}") from error
    return folder


def cache_folder() -> Path:
    """Where this user's programs keep what can be made again."""
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "wan-duet"


def _make(folder: Path) -> None:
    """Write into a folder beside `folder` and rename, so that a half-made model is never found."""
    log.info("making the embedded model in %s", folder)
    scratch = Path(tempfile.mkdtemp(prefix=".toy-", dir=folder.parent))
    try:
        _write(scratch)
        try:
            scratch.rename(folder)
        except OSError:
            if not (folder / "model_index.json").is_file():  # else another process was faster
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write(folder: Path) -> None:
    import torch
    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from safetensors.torch import save_file
    from transformers import UMT5Config, UMT5EncoderModel

    from .networks import build_tokenizer, expert_config, text_encoder_config, vae_config

    text_config = UMT5Config(**text_encoder_config())
    with torch.device("meta"):
        networks: Mapping[str, Any] = {
            "transformer": WanTransformer3DModel(**expert_config()),
            "transformer_2": WanTransformer3DModel(**expert_config()),
            "vae": AutoencoderKLWan(**vae_config()),
            "text_encoder": UMT5EncoderModel(text_config),
        }
    generator = torch.Generator("cpu").manual_seed(_SEED)
    for name, network in networks.items():
        target = folder / name
        target.mkdir()
        stem = "model" if name == "text_encoder" else "diffusion_pytorch_model"
        weights = {
            key: _draw(key, parameter.shape, generator).to(torch.float16)
            for key, parameter in network.named_parameters()
        }
        save_file(weights, target / f"{stem}.safetensors", metadata={"format": "pt"})
        (text_config.save_pretrained if name == "text_encoder" else network.save_config)(target)
    build_tokenizer(folder / "tokenizer")
    (folder / "model_index.json").write_text(json.dumps(_INDEX, indent=2), encoding="utf-8")


def _draw(name: str, shape: Any, generator: Any) -> Any:
    """Norms one, biases zero, the rest normal and scaled by its fan-in, so that signals stay alive."""
    import torch

    if name.endswith("gamma") or ("norm" in name and name.endswith("weight")):
        return torch.ones(shape)
    if len(shape) == 1:
        return torch.zeros(shape)
    fan_in = 1 if name == "shared.weight" else math.prod(shape[1:])
    return torch.randn(shape, generator=generator) / math.sqrt(fan_in)
