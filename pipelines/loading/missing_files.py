"""The folders of the parts of a model, and pages to download them from, for messages about missing parts.

Nothing is downloaded here. Source: the workflow templates of Comfy-Org (Comfy-Org/workflow_templates,
templates/video_wan2_2_*.json; 2026-11-20).
"""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

__all__ = ["PartName", "missing", "moved", "public_page"]

_MOST_FOLDERS = 2000  # looked into for a file that was moved

PartName = Literal["low_model", "vae", "text_encoder", "image_encoder", "audio_encoder"]

_WAN22 = "https://huggingface.co/Comfy-Org/Wan_2.2_ComfyUI_Repackaged/tree/main/split_files"
_WAN21 = "https://huggingface.co/Comfy-Org/Wan_2.1_ComfyUI_repackaged/tree/main/split_files"


_PAGES = {
    "diffusion_models": f"{_WAN22}/diffusion_models",
    "vae": f"{_WAN22}/vae",
    "text_encoders": f"{_WAN21}/text_encoders",
    "clip_vision": f"{_WAN21}/clip_vision",
    "audio_encoders": f"{_WAN22}/audio_encoders",
}


class _Part(NamedTuple):
    """A part of a model. folder: below ComfyUI's models folder. file: its usual name."""

    folder: str
    file: str


_WHAT = {
    "low_model": "low-noise expert",
    "vae": "VAE",
    "text_encoder": "text encoder",
    "image_encoder": "image encoder",
    "audio_encoder": "audio encoder",
}
_LOW = {
    "wan2.2-t2v-a14b": "wan2.2_t2v_low_noise_14B_fp8_scaled.safetensors",
    "wan2.2-i2v-a14b": "wan2.2_i2v_low_noise_14B_fp8_scaled.safetensors",
}


def missing(slot: PartName, family: str) -> str:
    """Return one sentence: which part of a model of `family` is missing, its folder, and where to get it."""
    part = _part(slot, family)
    return (
        f"{slot}: {family} also needs its {_WHAT[slot]}; put {part.file} into models/{part.folder} "
        f"({public_page(part.folder)}) and choose it here"
    )


def public_page(folder: str) -> str:
    """Return the page with files for a ComfyUI folder: diffusion_models, vae, text_encoders, clip_vision."""
    return _PAGES[folder]


def moved(path: Path) -> str:
    """Return where below its folder a missing file is now, as the end of a sentence; empty if nowhere."""
    if not path.suffix or not path.parent.is_dir():
        return ""
    walked = islice(os.walk(path.parent, followlinks=True), _MOST_FOLDERS)
    places = [str(Path(folder) / path.name) for folder, _, names in walked if path.name in names]
    return f". A file of that name is at {' and at '.join(sorted(places)[:3])}" if places else ""


def _part(slot: PartName, family: str) -> _Part:
    if slot == "low_model":
        return _Part("diffusion_models", _LOW[family])
    if slot == "audio_encoder":
        return _Part("audio_encoders", "wav2vec2_large_english_fp16.safetensors")
    if slot == "text_encoder":
        return _Part("text_encoders", "umt5_xxl_fp8_e4m3fn_scaled.safetensors")
    if slot == "image_encoder":
        return _Part("clip_vision", "clip_vision_h.safetensors")
    if family == "wan2.2-ti2v-5b":
        return _Part("vae", "wan2.2_vae.safetensors")
    return _Part("vae", "wan_2.1_vae.safetensors")
