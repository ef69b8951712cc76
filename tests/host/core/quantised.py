"""Run by test_quantised.py in ComfyUI's own interpreter: quantised files as ComfyUI reads them, and as we do.

The last line it prints is JSON: by format, the largest difference of our numbers from ComfyUI's, relative to
the largest number: "written by us", read by its loader; "written by kitchen", decoded by comfy-kitchen; "in
bfloat16", which ComfyUI decodes to while it runs; and of the outputs of a layer that it computes in the
format, relative to their size.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import torch
from comfy import ops
from comfy.quant_ops import QUANT_ALGOS, QuantizedTensor, get_layout_class
from pack.pipelines.weights.checkpoint import read_checkpoint
from pack.pipelines.weights.quantised_tensor import unpadded
from pack.pipelines.weights.stored_tensors import Files
from safetensors.torch import save_file
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2] / "weights"))
import quantised_files as files

SHAPES = [(300, 272), (100, 272), (300, 320), (384, 512)]
# Format, how comfy-kitchen is asked to quantise, and how a file says it.
KITCHEN: dict[str, tuple[str, dict[str, object], dict[str, object]]] = {
    "int8_tensorwise": ("int8_tensorwise", {}, {}),
    "int8_tensorwise per row": ("int8_tensorwise", {"per_channel": True}, {}),
    **{
        f"{name} by {group}": (
            name,
            {**more, "convrot_groupsize": group},
            {**said, "convrot_groupsize": group},
        )
        for group in (16, 256)
        for name, more, said in (
            ("int8_tensorwise", {"per_channel": True, "convrot": True}, {"convrot": True}),
            ("convrot_w4a4", {}, {}),
            ("asym_w4a8_int8", {}, {}),
        )
    },
    "asym_w4a8_int8 without a codebook": (
        "asym_w4a8_int8",
        {"codebook": False, "convrot_groupsize": 16, "group_size": 8},
        {"convrot_groupsize": 16, "group_size": 8},
    ),
    "mxfp8": ("mxfp8", {}, {}),
    "nvfp4": ("nvfp4", {}, {}),
}


def ours(folder: Path, held: dict[str, Tensor], shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    file = folder / "m.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in held.items()}, file)
    found = unpadded(read_checkpoint(file).tensors, shapes)
    with Files(torch.device("cpu")) as opened:
        return {name: found[name].read(opened).float() for name in shapes}


def layer_of_comfyui(
    held: dict[str, Tensor], name: str, shape: tuple[int, ...], dtype: torch.dtype
) -> torch.nn.Module:
    """The linear layer that ComfyUI's loader makes of the file."""
    made: torch.nn.Module = ops.mixed_precision_ops({}, dtype).Linear(
        shape[1], shape[0], bias=False, device="cpu", dtype=dtype
    )
    layer = name.removesuffix("weight")
    made.load_state_dict({key.removeprefix(layer): t for key, t in held.items() if key.startswith(layer)})
    return made


def of_comfyui(held: dict[str, Tensor], name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Its weight, decoded."""
    made = layer_of_comfyui(held, name, shape, dtype)
    weight = made.weight.dequantize()[: shape[0], : shape[1]].float()
    smoothing = getattr(made, "pre_quant_scale", None)
    return weight if smoothing is None else weight * smoothing


def of_products(kind: str) -> float:
    """How far outputs of ComfyUI's layer, computed in the format, are from those of the decoded weight."""
    (name, weight), *_ = files.matrices([(384, 512)]).items()
    held, meant, _ = files.quantised({name: weight}, kind, lambda name, tensor: True)
    made = layer_of_comfyui(held, name, tuple(weight.shape), torch.bfloat16)
    inputs = torch.randn(64, 512, generator=torch.Generator().manual_seed(2)).bfloat16()
    exact = inputs.double() @ meant[name].double().T
    return float((made(inputs).double() - exact).norm() / exact.norm())


def written_by_us(folder: Path, kind: str, dtype: torch.dtype) -> float:
    weights = files.matrices(SHAPES)
    held, _, _ = files.quantised(weights, kind, lambda name, tensor: True)
    shapes = {
        name: tuple(tensor.shape)
        for name, tensor in weights.items()
        if files.columns_of(kind, tensor.shape[1])
    }
    found = ours(folder, held, shapes)
    return max(
        files.largest_error(found[name], of_comfyui(held, name, shape, dtype))
        for name, shape in shapes.items()
    )


def written_by_kitchen(folder: Path, kind: str) -> float:
    name, asked, said = KITCHEN[kind]
    layout = QUANT_ALGOS[name]["comfy_tensor_layout"]
    errors = []
    for weight in files.matrices(SHAPES).values():
        whole = 64 if name == "convrot_w4a4" else 1  # its maker asks for that, its readers do not
        if weight.shape[1] % max(whole, int(str(asked.get("convrot_groupsize", 1)))):
            continue
        made = QuantizedTensor(*_quantised(layout, weight, asked))
        held = {f"a.{key}": tensor for key, tensor in made.state_dict("weight").items()}
        held["a.comfy_quant"] = files.hint(format=name, **said)
        shape = tuple(weight.shape)
        theirs = made.dequantize()[: shape[0], : shape[1]].float()
        errors.append(files.largest_error(ours(folder, held, {"a.weight": shape})["a.weight"], theirs))
    return max(errors)


def _quantised(layout: str, weight: Tensor, asked: dict[str, object]) -> tuple[Tensor, str, object]:
    stored, params = get_layout_class(layout).quantize(weight, **asked)
    return stored, layout, params


with tempfile.TemporaryDirectory() as made:
    place = Path(made)
    missing = sorted({name for name, _, _ in KITCHEN.values()} - QUANT_ALGOS.keys())
    if "pre_quant_scale" not in QUANT_ALGOS["nvfp4"]["parameters"]:
        missing.append("nvfp4 smoothed")
    known = [kind for kind in files.OF_COMFYUI if not kind.startswith(tuple(missing))]
    told = {
        "unknown to this ComfyUI": missing,
        "written by us": {kind: written_by_us(place, kind, torch.float32) for kind in known},
        "in bfloat16": {kind: written_by_us(place, kind, torch.bfloat16) for kind in known},
        "products in the format": {kind: of_products(kind) for kind in known if "fp8 per row" not in kind},
        "written by kitchen": {
            kind: written_by_kitchen(place, kind)
            for kind, (name, _, _) in KITCHEN.items()
            if name not in missing
        },
    }
sys.stdout.write(f"\n{json.dumps(told)}\n")
