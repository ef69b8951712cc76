"""Tasks that need special weights: which of them the loaded model lacks, and where to download them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ..errors import LoraError
from ..loading.host_model import AnyModel, HostModel, missing_part
from ..loading.missing_files import missing
from ..request.distilled import DISTILLED_NAME
from ..weights.lora.find import LoraSources
from .distilled_titles import titles_of

__all__ = ["expert_file_names", "lora_names", "missing_weights", "with_lightning"]

_FAST = re.compile(r"fast[ _-]?(?:wan|video)|dmd", re.IGNORECASE)
_LORAS = "https://huggingface.co/Comfy-Org/Wan_2.2_ComfyUI_Repackaged/tree/main/split_files/loras"
_LIGHTNING = {
    "turbo-text-to-video": "wan2.2_t2v_lightx2v_4steps_lora_v1.1_{}_noise.safetensors",
    "turbo-image-to-video": "wan2.2_i2v_lightx2v_4steps_lora_v1_{}_noise.safetensors",
}
_ALIKE = "diffusion_pytorch_model"
_FASTWAN = "FastVideo/FastWan2.2-TI2V-5B-FullAttn-Diffusers"


def with_lightning(model: AnyModel, task: str, sources: LoraSources) -> AnyModel:
    """Add the Lightning LoRAs that a turbo task needs, when `sources` has them all.

    Returns `model` unchanged otherwise; `missing_weights` then names the missing files.
    """
    if task not in _LIGHTNING or task not in model.family.tasks:
        return model
    wanted = {name: _LIGHTNING[task].format(name) for name in _undistilled(model)}
    try:
        files = {name: sources.find(file) for name, file in wanted.items()}
    except LoraError:
        return model
    for name, file in files.items():
        model = model.with_lora(file, 1.0, name)
    return model


def missing_weights(model: AnyModel) -> Mapping[str, str]:
    """Return {task: what is missing and what to do} for the tasks of the family. Empty when all can run."""
    found: dict[str, str] = {}
    if model.family.uses_clip and (lacking := _no_image_encoder(model)):
        found["image-to-video"] = lacking
    without = _undistilled(model)
    for task, file in _LIGHTNING.items():
        if task in model.family.tasks and without:
            files = " and ".join(file.format(name) for name in without)
            found[task] = (
                f"the model is not distilled for four steps; put {files} ({_LORAS}) into models/loras, or "
                "on the command line into the current folder; or load a distilled model, whose file or "
                "folder name contains lightning, lightx2v, distill, turbo or 4step"
            )
    if "small-fast-video" in model.family.tasks and not _name_matches(_FAST, model, "high"):
        found["small-fast-video"] = (
            "not the weights of FastVideo, and its three steps work with no others; put the folder "
            f"https://huggingface.co/{_FASTWAN} into models/diffusers and load it; the name of the folder or "
            "file must contain FastWan, FastVideo or DMD"
        )
    return found


def _no_image_encoder(model: AnyModel) -> str:
    """What to do about a missing image encoder; empty when there is one."""
    if isinstance(model, HostModel):
        return "" if model.networks.clip_vision is not None else missing_part("clip_vision")
    return "" if model.image_encoder is not None else missing("image_encoder", model.family.name)


def _undistilled(model: AnyModel) -> list[str]:
    """Return the experts that do not seem distilled: neither their names and titles nor a LoRA suggest it.

    Tensors do not show it. Any attached LoRA counts, whatever its name.
    """
    has_lora = {lora.expert for lora in model.loras if lora.strength}
    if isinstance(model, HostModel):
        has_lora |= {name for name, facts in model.facts.items() if facts.lora}
    return [
        name
        for name in _names(model)
        if name not in has_lora and not _name_matches(DISTILLED_NAME, model, name)
    ]


def _name_matches(words: re.Pattern[str], model: AnyModel, expert: str) -> bool:
    """Whether the name or a title of a file of `expert` contains one of `words`."""
    return any(words.search(name) for name in _names(model)[expert])


def _names(model: AnyModel) -> dict[str, list[str]]:
    """The names of the files of each expert, and the titles in them; a host may not know its own."""
    if isinstance(model, HostModel):
        return {name: [facts.file] for name, facts in model.facts.items()}
    return {
        name: [*map(_name, recipe.files), *(title for file in recipe.files[:1] for title in titles_of(file))]
        for name, recipe in model.experts.items()
    }


def expert_file_names(model: AnyModel) -> list[str]:
    """Return the names of the files of all experts, or of the folders that hold them, and their titles."""
    return list(dict.fromkeys(name for names in _names(model).values() for name in names))


def lora_names(model: AnyModel) -> list[str]:
    """Return the names of the files of the LoRAs that act, and their titles."""
    files = (lora.file for lora in model.loras if lora.strength)
    return list(dict.fromkeys(name for file in files for name in (file.name, *titles_of(file))))


def _name(file: Path) -> str:
    """Return the name that a person chose: of the file or, in diffusers layout, of the folder."""
    if not file.name.startswith(_ALIKE):
        return file.name
    folder = file.parent
    return (folder.parent if folder.name.startswith("transformer") else folder).name
