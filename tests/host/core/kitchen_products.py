"""Run by test_kitchen_products.py in ComfyUI's own interpreter: products on stored numbers by comfy-kitchen.

Its CUDA kernels need a GPU; here its eager backend computes, which has no product of mxfp8 and nvfp4 on a
CPU. A backend of ours adds them: it decodes both sides with comfy-kitchen and multiplies. The last line it
prints is JSON: the reasons against each way here, and by way and number of tokens how far the result is from
our reference, relative to its size; the same of a layer with two LoRAs beside it, from exact numbers.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfy_kitchen
import torch
from comfy_kitchen.registry import registry
from pack.pipelines.kernels.kitchen_products import why_not_kitchen
from pack.pipelines.kernels.stored_products import WAYS, quantised_matrix
from pack.pipelines.networks.stored_linear import StoredLinear
from pack.pipelines.weights.checkpoint import read_checkpoint
from pack.pipelines.weights.lora.delta import LoraDelta, LowRank
from pack.pipelines.weights.quantised_tensor import unpadded
from pack.pipelines.weights.recipe import Recipe
from pack.pipelines.weights.stored_layers import computing_as_stored
from pack.pipelines.weights.stored_tensors import Files, read_header
from safetensors.torch import save_file
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2] / "weights"))
import quantised_files as files

CPU, NAME = torch.device("cpu"), "blocks.0.layer"
OURS = {name: way for name, way in WAYS.items() if way.kitchen}


def mx_product(a: Tensor, b: Tensor, block_scale_a: Tensor, block_scale_b: Tensor, **_: Any) -> Tensor:
    sides = ((a, block_scale_a), (b, block_scale_b))
    left, right = (comfy_kitchen.dequantize_mxfp8(*side, torch.float32) for side in sides)
    return left @ right.t()


def nv_product(
    a: Tensor,
    b: Tensor,
    tensor_scale_a: Tensor,
    tensor_scale_b: Tensor,
    block_scale_a: Tensor,
    block_scale_b: Tensor,
    **_: Any,
) -> Tensor:
    sides = ((a, tensor_scale_a, block_scale_a), (b, tensor_scale_b, block_scale_b))
    left, right = (comfy_kitchen.dequantize_nvfp4(*side, torch.float32) for side in sides)
    return left @ right.t()


def sample(product: Any, rows: int, columns: int) -> tuple[Tensor, ...]:
    return quantised_matrix(product, files.matrices([(rows, columns)])["layer0.weight"])


def tokens(count: int, columns: int) -> Tensor:
    made = torch.randn(count, columns, generator=torch.Generator().manual_seed(1))
    made[-1, :32] = 0
    if count > 1:
        made[0] = 0
    return made * torch.logspace(-3, 3, count)[:, None]


def apart(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


def of_product(name: str, count: int, columns: int) -> float:
    """columns: of the tokens; the matrix has as many, in whole blocks."""
    way = OURS[name]
    parts = sample(way.product, 320, -(-columns // 32) * 32)
    if way.product == "nvfp4":
        parts = (*parts[:2], torch.tensor(0.37))
    reference = WAYS[f"{way.product} on a CPU"].multiply
    hidden = tokens(count, columns)
    return apart(way.multiply(hidden.clone(), *parts), reference(hidden.clone(), *parts))


def of_layer(name: str, kind: str, folder: Path) -> float:
    """How far a layer with two LoRAs is from the decoded weight with both added."""
    (weight,) = files.matrices([(320, 512)]).values()
    held, meant, _ = files.quantised({f"{NAME}.weight": weight}, kind, lambda *_: True)
    save_file({key: tensor.contiguous() for key, tensor in held.items()}, folder / "m.safetensors")
    made = unpadded(read_checkpoint(folder / "m.safetensors").tensors, {f"{NAME}.weight": (320, 512)})
    lora = folder / "lora.safetensors"
    save_file({"down": torch.randn(4, 512) / 20, "up": torch.randn(320, 4) / 20}, lora)
    factors = read_header(lora)
    deltas = [
        LoraDelta(lora, strength, 1.0, LowRank(factors["down"], factors["up"])) for strength in (0.5, -2.0)
    ]
    recipe, _ = computing_as_stored(Recipe.of({}, made).with_deltas({f"{NAME}.weight": deltas}), CPU)
    layer = StoredLinear(replace(recipe.stored[NAME], way=name), None)
    with Files(CPU) as opened:
        for key, tensor in recipe.tensors.items():
            read = torch.nn.Parameter(tensor.compute(opened), requires_grad=False)
            layer.register_parameter(key.removeprefix(f"{NAME}."), read)
        delta = -1.5 * factors["up"].read(opened).double() @ factors["down"].read(opened).double()
    hidden = tokens(40, 512)
    return apart(layer(hidden), hidden.double() @ (meant[f"{NAME}.weight"].double() + delta).T)


KINDS = {
    "comfy-kitchen of int8": ("int8 per row", "int8_tensorwise rotated by 256", "asym_w4a8_int8 by 256"),
    "comfy-kitchen of mxfp8": ("mxfp8",),
    "comfy-kitchen of nvfp4": ("nvfp4", "nvfp4 smoothed"),
}

told: dict[str, Any] = {
    "has a GPU": torch.cuda.is_available(),
    "refused": {name: why_not_kitchen(way.kitchen) for name, way in OURS.items()},
}
products = SimpleNamespace(scaled_mm_mxfp8=mx_product, scaled_mm_nvfp4=nv_product)
registry.register("reference", products, {"scaled_mm_mxfp8": None, "scaled_mm_nvfp4": None})
comfy_kitchen.set_backend_priority(["reference", "eager"])
here = [name for name in OURS if name != "comfy-kitchen of int8" or hasattr(comfy_kitchen, "int8_linear")]
with torch.inference_mode(), tempfile.TemporaryDirectory() as made:
    told["products"] = {
        name: [of_product(name, *shape) for shape in ((1, 512), (17, 512), (40, 288))] for name in here
    }
    told["layers"] = {name: {kind: of_layer(name, kind, Path(made)) for kind in KINDS[name]} for name in here}
sys.stdout.write(f"\n{json.dumps(told)}\n")
