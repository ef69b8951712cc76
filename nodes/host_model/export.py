"""Converts a model of this pack to MODEL, CLIP and VAE of ComfyUI: the same files in ComfyUI's networks."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import folder_paths
import torch
from comfy import sd, utils

from ...pipelines.loading.core_names import (
    added_by_loras,
    core_config,
    core_tensors,
    is_stored_plainly,
    readable_file,
)
from ...pipelines.weights.stored_tensors import is_safetensors, read_header
from ..comfy_interface import ExecutionBlocker
from .networks import ComfyNetworks

if TYPE_CHECKING:
    from ...pipelines.loading.wan_model import WanModel
    from ...pipelines.weights.recipe import Recipe

__all__ = ["core_clip", "core_expert", "core_vae"]

log = logging.getLogger(__name__)

_UMT5_XXL = 4096  # width of the only UMT5 that ComfyUI builds


def core_expert(model: WanModel, expert: str, materialise: bool) -> Any:
    """Return the MODEL of one expert with its LoRAs, or an ExecutionBlocker with the reason why there is
    none.

    materialise: dequantise formats that ComfyUI does not read, to bfloat16 in main memory.
    """
    if expert not in model.experts:
        return ExecutionBlocker(f"{expert}: {model.name} has a single expert; use high")
    if model.family.needs_audio:
        return ExecutionBlocker(
            f"{expert}: {model.name} is a speech model, whose tensors are not renamed for ComfyUI; load its "
            "file with Load Diffusion Model"
        )
    recipe = model.experts[expert]
    loaded = _load(recipe, materialise)
    if loaded is None:
        gib = 2 * recipe.elements / 2**30
        return ExecutionBlocker(
            f"{expert}: ComfyUI does not read {recipe.files[0].name}; turn materialise on to dequantise it "
            f"to bfloat16, which takes {gib:.2f} GiB of main memory"
        )
    return _with_loras(loaded, model, expert)


def core_clip(model: WanModel) -> Any:
    """Return the CLIP from the same file, or an ExecutionBlocker with the reason."""
    recipe, (file, *others) = model.text_encoder, model.text_encoder.files
    width = recipe.config.get("d_model")
    if width != _UMT5_XXL:
        return ExecutionBlocker(
            f"clip: ComfyUI builds UMT5-XXL only, of width {_UMT5_XXL}, and this text encoder has width "
            f"{width}; encode with Wan Duet Encode Prompt"
        )
    readable = not others and is_safetensors(file)
    if not readable or not {"shared.weight", "spiece_model"} <= read_header(file).keys():
        return ExecutionBlocker(
            "clip: ComfyUI reads UMT5 from one .safetensors file that contains its tokenizer, and "
            f"{file.name} is none; encode with Wan Duet Encode Prompt"
        )
    return sd.load_clip(
        ckpt_paths=[str(file)],
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        clip_type=sd.CLIPType.WAN,
    )


def core_vae(model: WanModel) -> Any:
    """Return the VAE from the same file, or an ExecutionBlocker with the reason."""
    file, *others = model.vae.files
    single = not others and is_safetensors(file)
    if not single or "decoder.conv1.weight" not in read_header(file):
        return ExecutionBlocker(
            f"vae: ComfyUI reads a Wan VAE from one file in Wan's names, and {file.name} is none; decode "
            "with Wan Duet Decode or Wan Duet Render Video"
        )
    return sd.VAE(sd=utils.load_torch_file(str(file), safe_load=True))


def _load(recipe: Recipe, materialise: bool, disable_dynamic: bool = False) -> Any:
    """Load the files with ComfyUI. None if it does not read them and `materialise` is off."""
    file = readable_file(recipe)
    if file is not None and recipe.config.get("text_dim", _UMT5_XXL) == _UMT5_XXL:
        return sd.load_diffusion_model(str(file), disable_dynamic=disable_dynamic)
    plain = is_stored_plainly(recipe)
    if not plain and not materialise:
        return None
    if not plain:
        log.info("%s: dequantised to bfloat16 for ComfyUI", recipe.files[0].name)
    tensors = core_tensors(recipe, torch.bfloat16)
    metadata = {"config": json.dumps({"transformer": dict(core_config(recipe))})}
    loaded = sd.load_diffusion_model_state_dict(tensors, metadata=metadata, disable_dynamic=disable_dynamic)
    # With this ComfyUI can load the weights again, which hooks and multi-GPU clones need.
    loaded.cached_patcher_init = (_load, (recipe, materialise))
    return loaded


def _with_loras(loaded: Any, model: WanModel, expert: str) -> Any:
    """Add LoRAs as ComfyUI's patches, or as weight differences if it does not know the dialect."""
    networks = ComfyNetworks({expert: loaded})
    for report in model.loras:
        if report.expert != expert or report.strength == 0:
            continue
        networks, attached = networks.with_lora(report.file, report.strength, expert)
        computed_otherwise = any(kind in name for name in report.facts.kinds for kind in ("DoRA", "OFT"))
        if attached < report.coverage.tensors or computed_otherwise or report.facts.alphas_elsewhere:
            log.info("%s: ComfyUI does not know this dialect; added as differences", report.file.name)
            return _with_differences(loaded, model.experts[expert])
    return networks.experts[expert]


def _with_differences(loaded: Any, recipe: Recipe) -> Any:
    patched = loaded.clone()
    patched.add_patches(
        {f"diffusion_model.{name}": ("diff", (added,)) for name, added in added_by_loras(recipe).items()}
    )
    return patched
