"""Run by test_lora_forms.py in ComfyUI's own interpreter: what each form of a LoRA adds there and here.

The last line it prints is JSON: by form, the largest difference relative to the largest number of the weight.
At strength 1, because ComfyUI applies the strength of a rotation twice.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import torch
from comfy.lora import calculate_weight, load_lora
from pack.pipelines.weights.lora.delta import LoraDelta
from pack.pipelines.weights.lora.lora_file import read_lora
from pack.pipelines.weights.stored_tensors import Files
from safetensors.torch import save_file
from torch import Tensor

LINEAR, CONVOLUTION = "blocks.0.self_attn.q", "patch_embedding"
WIDTH, RANK = 24, 3
WIDE, TALL = (RANK, WIDTH), (WIDTH, RANK)
ALPHA = 1.5
Shapes = dict[str, tuple[int, ...]]


def shapes_of_glora(*shapes: tuple[int, int]) -> Shapes:
    return dict(zip(("a1.weight", "a2.weight", "b1.weight", "b2.weight"), shapes, strict=True))


def hadamard(*shapes: tuple[int, ...]) -> Shapes:
    return {
        f"hada_{name}": shape for name, shape in zip(("w1_a", "w1_b", "w2_a", "w2_b"), shapes, strict=True)
    }


LORA: Shapes = {"lora_up.weight": TALL, "lora_down.weight": WIDE}
KRONECKER: Shapes = {"lokr_w1": (4, 4), "lokr_w2_a": (6, 2), "lokr_w2_b": (2, 6)}
# Form, its tensors, and its alpha. An alpha of 0 is no limit of a rotation.
FORMS: dict[str, tuple[Shapes, float | None]] = {
    "LoRA": (LORA, ALPHA),
    "LoRA without an alpha": (LORA, None),
    "DoRA": (LORA | {"dora_scale": (WIDTH, 1)}, ALPHA),
    "DoRA of columns": (LORA | {"dora_scale": (1, WIDTH)}, ALPHA),
    "LoHa": (hadamard(TALL, WIDE, TALL, WIDE), ALPHA),
    "LoKr": (KRONECKER, ALPHA),
    "LoKr with the first factor in two": (
        {"lokr_w1_a": (4, 2), "lokr_w1_b": (2, 4), "lokr_w2": (6, 6)},
        ALPHA,
    ),
    "LoKr with both in two": (
        {"lokr_w1_a": (4, 2), "lokr_w1_b": (2, 4), "lokr_w2_a": (6, 2), "lokr_w2_b": (2, 6)},
        ALPHA,
    ),
    "LoKr of whole factors, whose alpha counts for nothing": ({"lokr_w1": (4, 4), "lokr_w2": (6, 6)}, ALPHA),
    "LoKr with a magnitude": (KRONECKER | {"dora_scale": (WIDTH, 1)}, ALPHA),
    "OFT": ({"oft_blocks": (4, 6, 6)}, 0.0),
    "OFT with a limit": ({"oft_blocks": (4, 6, 6)}, 0.5),
    "BOFT": ({"oft_blocks": (2, 6, 4, 4)}, 0.0),
    "BOFT with factors": ({"oft_blocks": (2, 6, 4, 4), "rescale": (WIDTH, 1)}, 0.0),
    "GLoRA": (shapes_of_glora(TALL, WIDE, TALL, WIDE), ALPHA),
    "old GLoRA": (shapes_of_glora(WIDE, TALL, WIDE, TALL), ALPHA),
    "difference": ({"diff": (WIDTH, WIDTH)}, None),
    "difference of weight and bias": ({"diff": (WIDTH, WIDTH), "diff_b": (WIDTH,)}, None),
    "LoRA beside a difference of the bias": (LORA | {"diff_b": (WIDTH,)}, ALPHA),
    "replacement": ({"set_weight": (WIDTH, WIDTH)}, None),
}
KERNEL = (1, 2, 2)
# The same on a convolution of (WIDTH, 4, 1, 2, 2).
OF_CONVOLUTIONS: dict[str, tuple[Shapes, float | None]] = {
    "LoRA": ({"lora_up.weight": (WIDTH, RANK, 1, 1, 1), "lora_down.weight": (RANK, 4, *KERNEL)}, ALPHA),
    "LoHa": (hadamard(TALL, (RANK, 16), TALL, (RANK, 16)), ALPHA),
    "LoKr": ({"lokr_w1": (4, 2), "lokr_w2_a": (6, 2), "lokr_w2_b": (2, 8)}, ALPHA),
    "difference": ({"diff": (WIDTH, 4, *KERNEL)}, None),
    "replacement": ({"set_weight": (WIDTH, 4, *KERNEL)}, None),
}


def difference(
    folder: Path, module: str, shapes: Shapes, alpha: float | None, sides: tuple[int, ...]
) -> float:
    """Return the largest one of weight and bias. Infinite if the same parameters are not changed."""
    stored = {f"{module}.{part}": torch.randn(shape) for part, shape in shapes.items()}
    if alpha is not None:
        stored[f"{module}.alpha"] = torch.tensor(alpha)
    save_file(stored, folder / "a.safetensors")
    base = {f"{module}.weight": torch.randn(sides), f"{module}.bias": torch.randn(sides[0])}
    theirs = dict(base)
    for name, patch in load_lora(stored, {module: f"{module}.weight"}).items():
        theirs[name] = calculate_weight([(1.0, patch, 1.0, None, None)], base[name].clone(), name)
    ours = dict(base)
    for change in read_lora(folder / "a.safetensors").changes:
        name = f"{module}.{change.name.rpartition('.')[2]}"
        ours[name] = added(change.delta(folder / "a.safetensors", 1.0), ours[name])
    changed = [name for name in base if theirs[name] is not base[name]]
    assert changed == [name for name in base if ours[name] is not base[name]]
    return max(float((ours[name] - theirs[name]).abs().max() / theirs[name].abs().max()) for name in changed)


def added(delta: LoraDelta, base: Tensor) -> Tensor:
    total = base.clone()
    with Files(torch.device("cpu")) as files:
        delta.add_to(total, files, base)
    return total


def differences(folder: Path) -> dict[str, float]:
    linear = {form: difference(folder, LINEAR, *given, sides=(WIDTH, WIDTH)) for form, given in FORMS.items()}
    return linear | {
        f"{form} of a convolution": difference(folder, CONVOLUTION, *given, sides=(WIDTH, 4, *KERNEL))
        for form, given in OF_CONVOLUTIONS.items()
    }


torch.manual_seed(0)
with tempfile.TemporaryDirectory() as made:
    told = differences(Path(made))
sys.stdout.write(f"\n{json.dumps(told)}\n")
