"""Whole tiny models of every family, random but in real layouts, that draw small pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiny_files
from smaller import smaller
from transformers import CLIPVisionConfig, CLIPVisionModel

from tools.train_embedded.networks import new_expert
from wan_duet.pipelines.embedded.toy_model import toy_folder
from wan_duet.pipelines.loading.wan_model import WanModel, load_model

CLIP_WIDTH, CLIP_SIDE, CLIP_PATCH = 64, 28, 14
TOKENS = (CLIP_SIDE // CLIP_PATCH) ** 2 + 1

# The transformers of a family, as arguments of tiny_files.transformer.
_EXPERTS: dict[str, list[dict[str, Any]]] = {
    "wan2.2-t2v-a14b": [{"seed": 1}, {"seed": 2}],
    "wan2.2-i2v-a14b": [{"seed": 1, "channels": 36}, {"seed": 2, "channels": 36}],
    "wan2.2-ti2v-5b": [{"seed": 3, "channels": 48, "out": 48}],
    "wan2.1-t2v-14b": [{"seed": 4, "num_attention_heads": 13, "attention_head_dim": 128}],
    "wan2.1-t2v-1.3b": [{"seed": 5}],
    "wan2.1-i2v-14b": [{"seed": 6, "channels": 36, "image": CLIP_WIDTH}],
    "wan2.1-flf2v-14b": [{"seed": 7, "channels": 36, "image": CLIP_WIDTH, "pos_embed_seq_len": 2 * TOKENS}],
}


def make_model(family: str, folder: Path, *, name: str = "model") -> WanModel:
    """A model of single files in `folder`, which draws 32x32 in place of every size of its family.

    name: how the files of its transformers begin.
    """
    vae = "2.2" if family == "wan2.2-ti2v-5b" else "2.1"
    pieces = tiny_files.spiece_tensor(tiny_files.spiece_model())
    text = tiny_files.save(folder / "text.safetensors", {**tiny_files.text_encoder(), "spiece_model": pieces})
    experts = [
        tiny_files.save(
            folder / f"{name}_{slot}.safetensors",
            tiny_files.wan_transformer_names(tiny_files.transformer(**settings)),
        )
        for slot, settings in zip(("high", "low"), _EXPERTS[family], strict=False)
    ]
    model = load_model(
        experts[0],
        low=experts[1] if len(experts) == 2 else None,
        vae=tiny_files.save(folder / "vae.safetensors", tiny_files.wan_vae_names(tiny_files.vae(vae))),
        text_encoder=text,
        image_encoder=make_image_encoder(folder / "image_encoder"),
    )
    assert model.family.name == family
    return smaller(model)


def make_image_encoder(folder: Path) -> Path:
    """CLIP's image encoder as a folder in diffusers layout has it."""
    config = CLIPVisionConfig(
        hidden_size=CLIP_WIDTH, intermediate_size=128, num_hidden_layers=3, num_attention_heads=2,
        image_size=CLIP_SIDE, patch_size=CLIP_PATCH, hidden_act="gelu",
    )  # fmt: skip
    weights = tiny_files.randomise(CLIPVisionModel(config), 8)
    named = {f"vision_model.{name.removeprefix('vision_model.')}": tensor for name, tensor in weights.items()}
    tiny_files.save(folder / "model.safetensors", named)
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    return folder


def make_toy_image(folder: Path) -> Path:
    """A copy of the embedded model with an untrained pair in its folder `image`, which is returned."""
    for part in toy_folder().iterdir():
        if part.name != "image":
            (folder / part.name).symlink_to(part)
    image = folder / "image"
    for index, name in enumerate(("transformer", "transformer_2")):
        new_expert(in_channels=36, seed=index).save_pretrained(image / name)
    (image / "model_index.json").write_text(
        json.dumps({"boundary_ratio": 0.9, "wan_duet": {"family": "toy"}})
    )
    return image


Maker = Callable[[str], WanModel]
