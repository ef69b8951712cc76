"""Tasks that only run on weights made for them: what the model that was loaded lacks, and where it is had."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ..errors import LoraError
from ..loading.missing_files import missing
from ..loading.wan_model import WanModel
from ..weights.lora.find import LoraSources

__all__ = ["lacking", "with_lightning"]

_FOUR_STEPS = re.compile(r"lightning|lightx2v|distill|turbo|4[ _-]?steps?", re.IGNORECASE)
_FAST = re.compile(r"fast[ _-]?(?:wan|video)|dmd", re.IGNORECASE)
_LORAS = "https://huggingface.co/Comfy-Org/Wan_2.2_ComfyUI_Repackaged/tree/main/split_files/loras"
_LIGHTNING = {
    "turbo-text-to-video": "wan2.2_t2v_lightx2v_4steps_lora_v1.1_{}_noise.safetensors",
    "turbo-image-to-video": "wan2.2_i2v_lightx2v_4steps_lora_v1_{}_noise.safetensors",
}
_ALIKE = "diffusion_pytorch_model"
_FASTWAN = "FastVideo/FastWan2.2-TI2V-5B-FullAttn-Diffusers"


def with_lightning(model: WanModel, task: str, sources: LoraSources) -> WanModel:
    """`model` with the Lightning LoRAs on those experts that a turbo task needs them on, where `sources` has
    them all; else as it is, and `lacking` says what is missing.
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


def lacking(model: WanModel) -> Mapping[str, str]:
    """{task: what is missing, and what to do}, of the tasks of the family; empty where nothing is."""
    found: dict[str, str] = {}
    if model.family.reads_clip and model.image_encoder is None:
        found["image-to-video"] = missing("image_encoder", model.family.name)
    without = _undistilled(model)
    for task, file in _LIGHTNING.items():
        if task in model.family.tasks and without:
            files = " and ".join(file.format(name) for name in without)
            found[task] = (
                f"not distilled for four steps; put {files} into models/loras ({_LORAS}), or on a command "
                "line into the folder you run it in, and it is used; or load a distilled model, whose file, "
                "or folder in diffusers layout, says lightning, lightx2v, distill, turbo or 4step in its name"
            )
    if "small-fast-video" in model.family.tasks and not _says(_FAST, model, "high"):
        found["small-fast-video"] = (
            "not the weights of FastVideo, and its three steps make nothing of others; put the folder "
            f"https://huggingface.co/{_FASTWAN} into models/diffusers and load that; its name, or that of a "
            "single file, says FastWan, FastVideo or DMD"
        )
    return found


def _undistilled(model: WanModel) -> list[str]:
    """The experts that nothing says are distilled. Inside a file nothing does; a LoRA that somebody attached
    counts whatever its name.
    """
    has_lora = {lora.expert for lora in model.loras if lora.strength}
    return [name for name in model.experts if name not in has_lora and not _says(_FOUR_STEPS, model, name)]


def _says(words: re.Pattern[str], model: WanModel, expert: str) -> bool:
    """Whether the name of a file of an expert has one of the words."""
    return any(words.search(_name(file)) for file in model.experts[expert].files)


def _name(file: Path) -> str:
    """What somebody called it: the file, or in diffusers layout, where all have one name, the folder."""
    if not file.name.startswith(_ALIKE):
        return file.name
    folder = file.parent
    return (folder.parent if folder.name.startswith("transformer") else folder).name
