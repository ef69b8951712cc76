"""Reads what ComfyUI knows about a MODEL: its kind, its file, and its patches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...pipelines.errors import ModelError
from ...pipelines.loading.host_family import HostFacts
from .patches import patch_names

__all__ = ["facts_of"]


def facts_of(model: Any, slot: str) -> HostFacts:
    """Return the facts. slot: name of the input. Raises ModelError for a MODEL that is not Wan."""
    config = getattr(model.model, "model_config", None)
    unet = getattr(config, "unet_config", {})
    if unet.get("image_model") != "wan2.1":
        raise ModelError(
            f"{slot}: the MODEL is {type(model.model).__name__}, which is no Wan model; connect a Wan 2.1 or "
            "Wan 2.2 one"
        )
    latent = model.get_model_object("latent_format")
    network = model.model.diffusion_model
    return HostFacts(
        config=type(config).__name__,
        channels=int(latent.latent_channels),
        inputs=int(network.patch_embedding.weight.shape[1]),
        width=int(unet["dim"]),
        clip=getattr(network, "img_emb", None) is not None,
        ends="flf_pos_embed_token_number" in unet,
        shift=_shift(model),
        lora=bool(model.patches),
        file=_file_name(model),
        patches=patch_names(model),
    )


def _shift(model: Any) -> float | None:
    if "model_sampling" not in model.object_patches:
        return None
    shift = getattr(model.get_model_object("model_sampling"), "shift", None)
    return None if shift is None else float(shift)


def _file_name(model: Any) -> str:
    """Return the name of the file that ComfyUI's loader read. Other loaders do not record it."""
    loaded = getattr(model, "cached_patcher_init", None)
    if not loaded or not loaded[1] or not isinstance(loaded[1][0], (str, Path)):
        return ""
    return Path(loaded[1][0]).name
