"""Run by test_lora_forms.py in ComfyUI's own interpreter: OFT, BOFT and GLoRA as ComfyUI and as we add them.

The last line it prints is JSON: by form, the largest difference relative to the largest number of the weight.
At strength 1, because ComfyUI applies the strength of a rotation twice.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import torch
from comfy.weight_adapter.boft import BOFTAdapter
from comfy.weight_adapter.glora import GLoRAAdapter
from comfy.weight_adapter.oft import OFTAdapter
from pack.pipelines.weights.lora.lora_file import read_lora
from pack.pipelines.weights.stored_tensors import Files
from safetensors.torch import save_file
from torch import Tensor

KEY = "blocks.0.self_attn.q"
WIDTH, RANK = 24, 3
WIDE, TALL = (RANK, WIDTH), (WIDTH, RANK)


def shapes_of_glora(*shapes: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    return dict(zip(("a1.weight", "a2.weight", "b1.weight", "b2.weight"), shapes, strict=True))


# Form, ComfyUI's class for it, and its tensors. An alpha of 0 is no limit of a rotation.
FORMS = {
    "OFT": (OFTAdapter, {"oft_blocks": (4, 6, 6)}, 0.0),
    "OFT with a limit": (OFTAdapter, {"oft_blocks": (4, 6, 6)}, 0.5),
    "BOFT": (BOFTAdapter, {"oft_blocks": (2, 6, 4, 4)}, 0.0),
    "BOFT with factors": (BOFTAdapter, {"oft_blocks": (2, 6, 4, 4), "rescale": (WIDTH, 1)}, 0.0),
    "GLoRA": (GLoRAAdapter, shapes_of_glora(TALL, WIDE, TALL, WIDE), 1.5),
    "old GLoRA": (GLoRAAdapter, shapes_of_glora(WIDE, TALL, WIDE, TALL), 1.5),
}


def difference(folder: Path, name: str) -> float:
    adapter, shapes, alpha = FORMS[name]
    stored = {f"{KEY}.{part}": torch.randn(shape) for part, shape in shapes.items()}
    stored[f"{KEY}.alpha"] = torch.tensor(alpha)
    save_file(stored, folder / "a.safetensors")
    weight = torch.randn(WIDTH, WIDTH)
    loaded = adapter.load(KEY, stored, alpha, None, set())
    theirs: Tensor = loaded.calculate_weight(weight.clone(), KEY, 1.0, 1.0, None, lambda added: added)
    (change,) = read_lora(folder / "a.safetensors").changes
    ours = weight.clone()
    with Files(torch.device("cpu")) as files:
        change.delta(folder / "a.safetensors", 1.0).add_to(ours, files, weight)
    return float((ours - theirs).abs().max() / theirs.abs().max())


torch.manual_seed(0)
with tempfile.TemporaryDirectory() as made:
    told = {name: difference(Path(made), name) for name in FORMS}
sys.stdout.write(f"\n{json.dumps(told)}\n")
