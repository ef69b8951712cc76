"""What training made, as the folders that diffusers and the pack load: fp16 safetensors, configs, tokenizer.

`DIR/` is text-to-video; `DIR/image/` holds the image-to-video pair and shares everything else; `DIR/loras/`
the LoRAs.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from transformers import UMT5EncoderModel

from wan_duet.pipelines.embedded.toy_model import TOY, TOY_IMAGE

from .networks import BOUNDARY, IMAGE_BOUNDARY, SHIFT
from .schedule import Run
from .train_experts import trained_expert
from .train_loras import LORAS, write_lora
from .train_text import trained_text_encoder
from .train_vae import folded_vae
from .vocabulary import build_tokenizer

__all__ = ["LIMIT_BYTES", "export"]

log = logging.getLogger(__name__)

LIMIT_BYTES = 48 * 1024 * 1024
_TEXT_PAIR = (("transformer", "high"), ("transformer_2", "low"))
_IMAGE_PAIR = (("transformer", "high_image"), ("transformer_2", "low_image"))


def export(run: Run, folder: Path) -> list[str]:
    """Write every part whose stage has begun; the names of the parts that are missing come back."""
    missing = []
    folder.mkdir(parents=True, exist_ok=True)
    if run.checkpoint("vae").exists():
        _save(folded_vae(run), folder / "vae")
    else:
        missing.append("vae")
    build_tokenizer(folder / "tokenizer")
    if run.checkpoint("text").exists():
        _save(trained_text_encoder(run), folder / "text_encoder")
    else:
        missing.append("text_encoder")
    for place, pair in ((folder, _TEXT_PAIR), (folder / "image", _IMAGE_PAIR)):
        for part, stage in pair:
            if run.checkpoint(stage).exists():
                _save(trained_expert(stage, run), place / part)
            else:
                missing.append(stage)
    for name in LORAS:
        if run.checkpoint(f"lora_{name}").exists():
            write_lora(name, run, folder / "loras" / f"{name}.safetensors")
        else:
            missing.append(name)
    _write_index(folder, "WanPipeline", BOUNDARY, TOY)
    if (folder / "image").exists():
        _write_index(folder / "image", "WanImageToVideoPipeline", IMAGE_BOUNDARY, TOY_IMAGE)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size > LIMIT_BYTES:
        raise ValueError(
            f"The export is {size / 2**20:.1f} MB; it must stay within {LIMIT_BYTES // 2**20} MB."
        )
    log.info("export: %.1f MB in %s, missing %s", size / 2**20, folder, ", ".join(missing) or "nothing")
    return missing


def _save(module: AutoencoderKLWan | UMT5EncoderModel | WanTransformer3DModel, folder: Path) -> None:
    for parameter in module.parameters():
        parameter.data = parameter.data.to(torch.float16).cpu().contiguous()
    for buffer in module.buffers():
        buffer.data = buffer.data.cpu()
    module.save_pretrained(folder, safe_serialization=True)


def _write_index(folder: Path, pipeline: str, boundary: float, family: str) -> None:
    UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=SHIFT
    ).save_pretrained(folder / "scheduler")
    index = {
        "_class_name": pipeline,
        "_diffusers_version": "0.35.0",
        "boundary_ratio": boundary,
        "expand_timesteps": False,
        "wan_duet": {"family": family},
        "scheduler": ["diffusers", "UniPCMultistepScheduler"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "transformer": ["diffusers", "WanTransformer3DModel"],
        "transformer_2": ["diffusers", "WanTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLWan"],
    }
    if pipeline == "WanImageToVideoPipeline":
        index |= {"image_encoder": [None, None], "image_processor": [None, None]}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
